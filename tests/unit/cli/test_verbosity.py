"""How much a command reports, where, and how it fails for scripts."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from lesionlens.cli.main import app

REPOSITORY = Path(__file__).resolve().parents[3]
COMMON = {"--verbose", "--quiet", "--log-file", "--debug"}


def run(*arguments: object):
    return CliRunner().invoke(app, [*map(str, arguments)])


def test_every_command_has_the_common_options():
    def commands(command):
        below = getattr(command, "commands", {}).values()
        return [c for each in below for c in commands(each)] or [command]

    lacking = {
        command.name: COMMON - {name for option in command.params for name in option.opts}
        for command in commands(typer.main.get_command(app))
    }
    assert not {name: options for name, options in lacking.items() if options}


def test_a_log_file_is_appended_to_and_holds_the_failure(tmp_path):
    log = tmp_path / "run.log"
    log.write_text("earlier\n")
    run("analyze", tmp_path / "nowhere", "--out", tmp_path / "out", "--log-file", log)
    lines = log.read_text("utf-8").splitlines()
    assert lines[0] == "earlier"
    assert "analyze" in lines[1]
    assert any("opening the study" in line for line in lines)
    assert "exit status 2: 'nowhere' does not exist" in lines[-1]


@pytest.mark.parametrize(
    ("name", "content"),
    [("t1.nii", b"\x5c\x01\0\0image"), ("findings.json", b"{}"), ("patients.TSV", b"case\n")],
)
def test_nothing_is_appended_to_a_file_that_is_no_log(tmp_path, name, content):
    """An image named by mistake had lines of the log at its end, and another digest."""
    file = tmp_path / name
    file.write_bytes(content)
    done = run("analyze", tmp_path / "nowhere", "--out", tmp_path / "out", "--log-file", file)
    assert done.exit_code == 2
    assert name in done.stderr
    assert file.read_bytes() == content


@pytest.mark.skipif(os.name == "nt", reason="no such names there")
def test_the_name_of_a_folder_forges_no_line_and_sends_nothing_to_the_terminal(tmp_path):
    study = tmp_path / "studies" / "a\x1b[31m\n2026-01-05 10:00:00 REPORT 2 of 2: b analysed"
    study.mkdir(parents=True)
    (study / "t1.nii.gz").touch()
    log = tmp_path / "run.log"
    done = run("batch", tmp_path / "studies", "--out", tmp_path / "out", "--log-file", log)
    assert "\x1b[31m" not in done.stderr
    for text in (done.stderr, log.read_text("utf-8")):
        (line,) = (one for one in text.splitlines() if "b analysed" in one)
        assert "1 of 1: a[31m 2026-01-05 10:00:00 REPORT 2 of 2: b analysed failed" in line


def test_verbose_reports_stages_on_stderr_and_quiet_only_the_error(tmp_path):
    arguments = ("analyze", tmp_path / "nowhere", "--out", tmp_path / "out")
    assert "opening the study" not in run(*arguments).stderr
    assert "opening the study" in run(*arguments, "-v").stderr
    assert run(*arguments, "-q").stderr.startswith("lesionlens: 'nowhere' does not exist")
    assert logging.getLogger("lesionlens").handlers == []


@pytest.mark.parametrize(
    "options", [["-q", "-v"], ["-q", "--debug"], ["--log-file", "no/such/folder/log"]], ids=str
)
def test_options_that_cannot_be_met_end_with_2(options):
    done = run("doctor", *options)
    assert done.exit_code == 2
    assert options[0].lstrip("-")[0] in done.stderr
