"""Every extra of the package is looked for."""

import re
import sys
import tomllib
from pathlib import Path

from lesionlens.base.errors import WeightsError
from lesionlens.cli import doctor
from lesionlens.imaging import samples

ROOT = Path(__file__).resolve().parents[3]
DEVELOPERS = {"all", "dev", "docs"}


def test_every_extra_is_listed_by_packages_that_it_installs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = {
        extra: {re.match(r"[\w.-]+", line)[0] for line in lines}
        for extra, lines in project["optional-dependencies"].items()
        if extra not in DEVELOPERS
    }
    assert set(doctor._EXTRAS) == set(extras)
    for extra, parts in doctor._EXTRAS.items():
        assert set(parts) <= extras[extra]


def test_an_installation_without_its_samples_is_reported(monkeypatch, tmp_path):
    monkeypatch.setattr(samples, "STUDY", tmp_path / "gone")
    found = doctor.examine()
    assert not found["ready"]
    assert "Sample      MISSING: install LesionLens again" in doctor._lines(found)


def test_without_torch_the_device_is_unknown(monkeypatch):
    version_of = doctor.version_of
    monkeypatch.setattr(doctor, "version_of", lambda n: None if n == "torch" else version_of(n))
    monkeypatch.setitem(sys.modules, "torch", None)
    found = doctor.examine()
    assert not found["ready"]
    lines = doctor._lines(found)
    assert lines[1].startswith("Device      unknown (")
    assert any(line.startswith("Core ") and "torch MISSING" in line for line in lines)


def test_a_torch_whose_libraries_cannot_be_loaded_is_reported(monkeypatch, tmp_path):
    """The command that tells what is wrong ended with "a system error: OSError"."""
    reason = "libcudart.so.12: cannot open shared object file"
    (tmp_path / "torch.py").write_text(f"raise OSError({reason!r})")

    def unloadable(name):
        raise OSError(reason)

    monkeypatch.setattr("lesionlens.network.weights.load", unloadable)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torch")
    found = doctor.examine()
    assert not found["ready"]
    lines = doctor._lines(found)
    assert lines[1].startswith("Device      unknown (")
    assert f"Weights     NOT USABLE: {reason}" in lines


def test_shipped_weights_that_are_damaged_are_called_not_usable(monkeypatch):
    def damaged(name):
        raise WeightsError(found=f"damaged {name}", expected="others", next_step="Install again")

    monkeypatch.setattr("lesionlens.network.weights.load", damaged)
    found = doctor.examine()
    assert not found["ready"]
    assert any(
        line.startswith("Weights     NOT USABLE: Found damaged") for line in doctor._lines(found)
    )
