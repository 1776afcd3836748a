"""Every extra of the package is looked for."""

import re
import tomllib
from pathlib import Path

import pytest

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


def test_packages_of_an_extra_that_are_missing_are_named_beside_those_there(monkeypatch):
    there = doctor.util.find_spec
    gone = {"onnx", "onnxscript"}
    monkeypatch.setattr(doctor.util, "find_spec", lambda n: None if n in gone else there(n))
    found = doctor.examine()
    assert not found["extras"]["onnx"]["installed"]
    line = next(line for line in doctor._lines(found) if line.startswith("onnx "))
    assert re.fullmatch(
        r'onnx +onnxruntime \S+, missing onnx, onnxscript: pip install "lesionlens\[onnx\]"', line
    )


@pytest.mark.parametrize(("count", "said"), [(1, "1 thread;"), (4, "4 threads;")])
def test_one_thread_is_one(count, said):
    found = doctor.examine()
    found["device"]["cpu_threads"] = count
    assert said in doctor._lines(found)[1]


def test_an_installation_without_its_samples_is_reported(monkeypatch, tmp_path):
    monkeypatch.setattr(samples, "STUDY", tmp_path / "gone")
    found = doctor.examine()
    assert not found["ready"]
    assert "Sample      MISSING: install LesionLens again" in doctor._lines(found)
