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

from lesionlens.cli import pacs
from lesionlens.site.pacs.delivery import Delivery


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


def test_what_is_said_of_a_deidentified_copy_that_is_sent_is_reported(sent, tmp_path, monkeypatch):
    """Only the notices of the de-identification were: not that the archive lacks an object."""

    confirmed = []

    class Shelf:
        def send(self, files, *, same_patient, **_):
            confirmed.append(same_patient)
            return Delivery(tuple(files), notices=("It does not list one.",))

    monkeypatch.setattr(pacs, "connect", lambda *_: Shelf())
    key, table = tmp_path / "key", tmp_path / "map.csv"
    answer = pacs.send("http://127.0.0.1", sent, deidentify=True, key=key, map_file=table)
    assert answer.notes[-1] == "It does not list one."
    assert len(answer.notes) > 1
    pacs.send("http://127.0.0.1", sent, deidentify=True, key=key, map_file=table, same_patient=True)
    assert confirmed == [False, True], "--same-patient had no effect beside --deidentify"


def test_a_deidentified_copy_is_sent_and_the_map_stays_here(orthanc, password, sent, tmp_path):
    key, table = tmp_path / "apart" / "key", tmp_path / "apart" / "map.csv"
    done = run(
        "send", orthanc.web, sent, "--user", USER, "--deidentify", "--key", key, "--map", table
    )
    assert done.returncode == 0, done.stderr
    assert "Faces remain" in done.stderr  # in so small a drawing the network sees no brain
    rows = [line.split(",") for line in table.read_text().splitlines()]
    (new,) = [row[2] for row in rows if row[0] == "patient"]
    found = json.loads(run("find", orthanc.web, "--user", USER, "--patient", new, "--json").stdout)
    (study,) = found
    assert study["study_uid"] != STUDY
    assert ["uid", STUDY, study["study_uid"]] in rows
    assert "synthetic" not in json.dumps(found).lower()
