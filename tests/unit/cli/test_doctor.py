"""Every extra of the package is looked for."""

import re
import tomllib
from pathlib import Path

from typer.testing import CliRunner

from lesionlens.cli import doctor
from lesionlens.cli.main import app

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
        assert {name for _, name in parts} <= extras[extra]


def test_an_extra_that_is_not_installed_is_missing_with_its_command(monkeypatch):
    monkeypatch.setattr(
        doctor.util, "find_spec", lambda name: None if name == "trimesh" else object()
    )
    state = doctor._extra("mesh", doctor._EXTRAS["mesh"])
    assert state["missing"] == ["trimesh"] and not state["installed"]
    assert state["add"] == 'pip install "lesionlens[mesh]"'


def test_only_the_part_of_an_extra_that_is_absent_is_missing(monkeypatch):
    """Without onnxscript, which exports networks, the engine onnx was called missing."""
    found = doctor.util.find_spec
    monkeypatch.setattr(
        doctor.util, "find_spec", lambda name: None if name == "onnxscript" else found(name)
    )
    lines = CliRunner().invoke(app, ["doctor"]).output.splitlines()
    line = next(line for line in lines if line.startswith("onnx "))
    assert re.search(r"onnxruntime \d.*, onnxscript MISSING; pip install", line)
