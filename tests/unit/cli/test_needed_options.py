"""Options that do nothing by themselves are refused, not ignored."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from lesionlens.cli.checks import check_used
from lesionlens.cli.main import app


@pytest.mark.parametrize(
    ("command", "needed", "option"),
    [
        ("pacs send http://127.0.0.1:9/dicom-web . --key K", "--deidentify", "--key"),
        ("pacs send http://127.0.0.1:9/dicom-web . --map M", "--deidentify", "--map"),
        ("export result study --out OUT --key K", "--deidentify", "--key"),
        ("analyze study --out OUT --api-key-file K", "--server", "--api-key-file"),
        ("analyze study --out OUT --fall-back", "--server", "--fall-back"),
        ("batch studies --out OUT --server-ca C", "--server", "--server-ca"),
        ("worklist ahead list --plain-http", "--server", "--plain-http"),
        ("train default --out OUT --studies S", "--finetune", "--studies"),
        ("train default --out OUT --convention msd", "--finetune", "--convention"),
        ("worklist scan studies --list L --patient 7", "the address of an archive", "--patient"),
        ("worklist scan studies --list L --date 20260105", "the address of an archive", "--date"),
    ],
)
def test_an_option_without_the_one_it_needs_is_refused(
    command, needed, option, tmp_path, monkeypatch
):
    """A reader who gave --key alone sent a study with its names; --patient listed all patients."""
    monkeypatch.chdir(tmp_path)
    for name in ("study", "studies", "result", "list"):
        Path(name).mkdir()
    done = CliRunner().invoke(app, command.split())
    assert done.exit_code == 2
    assert f"Found {option} without {needed}." in done.output
    assert {path.name for path in tmp_path.iterdir()} == {"study", "studies", "result", "list"}


@pytest.mark.parametrize(
    ("command", "other", "option"),
    [
        ("export-model --prompts --out p.onnx --precision int8", "--prompts", "--precision"),
        ("export-model --prompts --out p.onnx --weights default", "--prompts", "--weights"),
        ("batch S --out OUT --scheduler tcp://h:1 --workers 2", "--scheduler", "--workers"),
        ("learn . --out OUT --recipe R --steps 9", "--recipe", "--steps"),
        ("response . --withdraw reason --sign A --category CR", "--withdraw", "--category"),
    ],
)
def test_an_option_that_another_one_makes_void_is_refused(
    command, other, option, tmp_path, monkeypatch
):
    """A network of 16 bits was written for --precision int8, under the name of these weights."""
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, command.split())
    assert done.exit_code == 2
    assert f"Found {option} beside {other}." in done.output
    assert list(tmp_path.iterdir()) == []


def test_the_same_options_are_accepted_with_it():
    check_used("--server", "https://gpu:8000", {"--fall-back": True})
    check_used("--server", None, {"--fall-back": False, "--api-key-file": None, "--date": ""})
