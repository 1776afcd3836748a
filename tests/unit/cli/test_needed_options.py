"""Options that do nothing by themselves are refused, not ignored."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from lesionlens.cli.checks import check_used
from lesionlens.cli.main import app

DIMSE = "an address of DIMSE (dicom:// or dicoms://)"


@pytest.mark.parametrize(
    ("command", "needed", "option"),
    [
        ("worklist scan studies --list L --patient 7", "the address of an archive", "--patient"),
        ("worklist scan studies --list L --date 20260105", "the address of an archive", "--date"),
        ("worklist scan studies --list L --user U", "the address of an archive", "--user"),
        ("worklist scan studies --list L --aet LENS1", "the address of an archive", "--aet"),
        ("worklist scan http://127.0.0.1:9/dicom-web --list L --aet LENS1", DIMSE, "--aet"),
        ("pacs find http://127.0.0.1:9/dicom-web --aet LENS1", DIMSE, "--aet"),
        ("pacs get http://127.0.0.1:9/dicom-web 1.2 --out OUT --by move", DIMSE, "--by"),
        ("pacs get http://127.0.0.1:9/dicom-web 1.2 --out OUT --port 104", DIMSE, "--port"),
        ("pacs send http://127.0.0.1:9/dicom-web . --aet LENS1", DIMSE, "--aet"),
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
    assert f"{option} has no effect without {needed}." in done.output
    assert {path.name for path in tmp_path.iterdir()} == {"study", "studies", "result", "list"}


@pytest.mark.parametrize(
    ("command", "other", "option"),
    [
        ("batch S --out OUT --scheduler tcp://h:1 --workers 2", "--scheduler", "--workers"),
        ("response . --withdraw reason --sign A --category CR", "--withdraw", "--category"),
        ("response . --withdraw reason --sign A --baseline 2", "--withdraw", "--baseline"),
        ("pacs get dicom://A@127.0.0.1:9 1.2 --out O --by get --port 104", "--by get", "--port"),
    ],
)
def test_an_option_that_another_one_makes_void_is_refused(
    command, other, option, tmp_path, monkeypatch
):
    """A network of 16 bits was written for --precision int8, under the name of these weights."""
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, command.split())
    assert done.exit_code == 2
    assert f"{option} has no effect with {other}." in done.output
    assert list(tmp_path.iterdir()) == []


def test_the_same_options_are_accepted_with_it():
    check_used("--bundle", "b", {"--threads": 5.0})
    check_used("--bundle", None, {"--threads": None, "--json": False, "--date": ""})
