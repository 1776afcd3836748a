"""`lesionlens pacs` as a user meets it: in a process of its own, against a real Orthanc."""

import json
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.site.pacs.conftest import PASSWORD, STUDY, USER, files_of, wire


def command(*words):
    return [str(Path(sys.executable).parent / "lesionlens"), "pacs", *map(str, words)]


def run(*words):
    return subprocess.run(command(*words), check=False, capture_output=True, text=True, timeout=300)


def test_a_study_is_found_fetched_and_sent(orthanc, password, sent, tmp_path):
    found = run("find", orthanc.web, "--user", USER, "--name", "synthetic phantom", "--json")
    assert found.returncode == 0, found.stderr
    assert [study["study_uid"] for study in json.loads(found.stdout)] == [STUDY]
    moved = run(
        "get", orthanc.dimse, STUDY, "--out", tmp_path / "got", "--by", "move",
        "--port", orthanc.move_port,
    )  # fmt: skip
    assert moved.returncode == 0, moved.stderr
    assert moved.stdout.startswith(f"{len(files_of(sent))} files")
    back = run("send", orthanc.web, tmp_path / "got", "--user", USER)
    count = len(files_of(sent))
    assert back.stdout == f"{count} files stored, {count} of them already there\n"
    assert PASSWORD not in found.stdout + found.stderr + moved.stderr + back.stderr


@pytest.mark.parametrize("by", ["web", "get"])
def test_ctrl_c_on_a_silent_line_leaves_nothing(orthanc, password, sent, tmp_path, by):
    """The interrupt comes in the middle of the study, when nothing moves any more."""
    port = orthanc.http if by == "web" else orthanc.dicom
    half = 0.5 * sum(path.stat().st_size for path in files_of(sent))
    silent, over = threading.Event(), threading.Event()

    def stay_silent():
        silent.set()
        over.wait(120)

    with wire(port, break_after=half, broken=stay_silent) as slow:
        it = replace(orthanc, http=slow, dicom=slow)
        words = (it.web, STUDY, "--user", USER) if by == "web" else (it.dimse, STUDY)
        process = subprocess.Popen(
            command("get", *words, "--out", tmp_path / "got"), stderr=subprocess.PIPE, text=True
        )
        try:
            while not silent.wait(0.2):
                assert process.poll() is None, process.stderr.read()
            process.send_signal(signal.SIGINT)
            _, reported = process.communicate(timeout=60)
        finally:
            over.set()
            process.kill()
            process.wait(10)
    assert process.returncode == 130, reported
    assert "Traceback" not in reported
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "status", "reported"),
    [
        (("find", "ftp://x"), 2, "AETITLE"),
        (("find", "https://me:hunter2@x"), 2, "bare address"),
        (("get", "dicom://A@127.0.0.1:9", "1.2.3", "--out", "got"), 1, "no connection"),
        (("get", "dicom://A@127.0.0.1:9", "../x", "--out", "got"), 2, "no UID"),
        (("send", "dicom://A@127.0.0.1:9", "nothing"), 2, "does not exist"),
    ],
    ids=["kind", "secret", "nobody", "uid", "nothing"],
)
def test_a_refusal_says_what_to_do_and_has_its_status(
    words, status, reported, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    done = run(*words)
    assert done.returncode == status
    assert reported in done.stderr
    assert "hunter2" not in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
