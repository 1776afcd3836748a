"""The command line as a process: statuses, streams and signals; nothing is touched on failure."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tests.command import COMMAND, digests, lesionlens, lesionlens_process
from tests.conftest import REPOSITORY
from tests.corpus import copy_of

SAMPLE = REPOSITORY / "sample_data"
pytestmark = pytest.mark.skipif(os.name == "nt", reason="shells, signals and devices of Unix")


def test_the_version_is_that_of_the_package():
    assert lesionlens_process("--version").stdout == "lesionlens 0.5.0\n"


def test_doctor_finds_the_core_the_weights_and_packages_of_others(third_party):
    ended = lesionlens_process("doctor", "--json")
    found = ended.json
    assert ended.status == 0
    assert found["ready"]
    assert found["sample"]
    assert found["weights"]["verified"]
    assert len(found["weights"]["sha256"]) == 64
    assert {"lens", "by-rule"} <= set(found["plugins"]["lesionlens.engines"])


def test_json_is_all_of_stdout_and_an_earlier_result_is_replaced(
    corpus, third_party, coarse, tmp_path, capfd
):
    out = copy_of(corpus.result("nifti two"), tmp_path / "out")
    (out / "my notes.txt").write_text("mine")
    study = corpus.study("nifti flair")
    before = digests(study)
    ended = lesionlens("analyze", study, "--out", out, "--engine", "by-rule", "--json")
    assert ended.status == 0, ended.stderr
    assert capfd.readouterr().out == ""  # nor does a library write past Python
    assert ended.json == json.loads((out / "findings.json").read_text())
    assert len(ended.json["candidates"]) == 1
    assert not (out / "probability_et.nii.gz").exists(), "a file of the earlier result is left"
    assert (out / "my notes.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert digests(study) == before


def test_an_error_is_an_object_under_json(tmp_path):
    asked = ("analyze", tmp_path / "nowhere", "--out", tmp_path / "out", "--json")
    ended = lesionlens_process(*asked)
    assert ended.status == ended.json["error"]["status"] == 2
    assert ended.stderr


def test_closed_streams_are_no_defect(tmp_path):
    said = tmp_path / "said"
    for arguments, status in (
        (["--version"], 0),
        (["sample", tmp_path / "s"], 0),
        (["analyze", tmp_path / "nowhere", "--out", tmp_path / "o"], 2),
    ):
        command = shlex.join(map(str, (COMMAND, *arguments)))
        done = subprocess.run(["/bin/sh", "-c", f"{command} >&- <&- 2>{said}"], check=False)
        assert (done.returncode, "defect" in said.read_text("utf-8")) == (status, False)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_output_that_cannot_be_printed_costs_no_file_and_changes_no_refusal(tmp_path):
    for arguments, status in (
        (["sample", tmp_path / "s"], 1),
        (["--help"], 1),
        (["analyze", tmp_path / "nowhere", "--out", tmp_path / "o", "--json"], 2),
    ):
        with Path("/dev/full").open("w", encoding="utf-8") as full:
            done = subprocess.run(
                [COMMAND, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False
            )
        assert done.returncode == status
        assert "Traceback" not in done.stderr
    assert (tmp_path / "s" / "study").is_dir()


@pytest.mark.parametrize(
    ("words", "status"), [("--help", 0), ("doctor --json", 0), ("analize", 2)], ids=str
)
def test_a_pipe_that_nobody_reads_leaves_the_status(words, status):
    reader, pipe = os.pipe()
    os.close(reader)
    command = [COMMAND, *words.split()]
    done = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, text=True, check=False)
    os.close(pipe)
    assert done.returncode == status
    assert "Traceback" not in done.stderr


def _wait_until_it_listens(pid: int) -> None:
    """Wait until the process catches SIGTERM, which Python by itself does not."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        caught = int(next(x for x in status.splitlines() if x.startswith("SigCgt")).split()[1], 16)
        if caught >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.02)
    pytest.fail("the command never listened to SIGTERM")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize(("name", "seconds"), [("SIGTERM", 0.05), ("SIGINT", 2.0), ("SIGHUP", 2.0)])
def test_an_interrupt_ends_with_130_and_touches_nothing(corpus, tmp_path, name, seconds):
    out = copy_of(corpus.result("nifti"), tmp_path / "out")
    before = digests(tmp_path)
    undo_nohup = ("env", "--default-signal=HUP")  # if the tests were started by it
    process = subprocess.Popen(
        [*undo_nohup, COMMAND, "analyze", SAMPLE / "study_dicom", "--out", out],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    _wait_until_it_listens(process.pid)
    time.sleep(seconds)
    process.send_signal(getattr(signal, name))
    stdout, stderr = process.communicate(timeout=120)
    assert (process.returncode, stdout) == (130, "")
    assert "Traceback" not in stderr
    assert digests(tmp_path) == before
