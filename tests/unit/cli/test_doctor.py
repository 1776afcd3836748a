"""`doctor` names what is missing, and only that."""

import re

from typer.testing import CliRunner

from lesionlens.cli import doctor
from lesionlens.cli.main import app


def test_only_the_part_of_an_extra_that_is_absent_is_missing(monkeypatch):
    """Without onnxscript, which exports networks, the engine onnx was called missing."""
    found = doctor.util.find_spec
    monkeypatch.setattr(
        doctor.util, "find_spec", lambda name: None if name == "onnxscript" else found(name)
    )
    lines = CliRunner().invoke(app, ["doctor"]).output.splitlines()
    line = next(line for line in lines if line.startswith("onnx "))
    assert re.search(r"onnxruntime \d.*, onnxscript MISSING; pip install", line)
