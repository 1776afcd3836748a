"""Scratch folders are private, and go: at their end, or when a killed process left them."""

import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from lesionlens.base.files import scratch
from lesionlens.base.files.scratch import PREFIX, ScratchFolder, remove_abandoned
from lesionlens.base.files.staging import staged

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="nothing is locked on Windows")

HOLD = """
import sys
from lesionlens.base.files.scratch import ScratchFolder
folder = ScratchFolder()
(folder.path / "head.nii.gz").write_bytes(b"voxels")
print(folder.path, flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(scratch, "_UNLOCKED_S", -1.0)
    return tmp_path


def test_one_is_private_and_removed_with_all_that_it_holds(temporary):
    with ScratchFolder() as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / "head.nii.gz").write_bytes(b"voxels")
        assert [*temporary.iterdir()] == [folder.parent]
    assert not [*temporary.iterdir()]


def test_that_of_a_running_process_stays_and_that_of_a_killed_one_goes(temporary):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary)},
    ) as process:
        folder = Path(process.stdout.readline().strip())
        assert folder.parents[1] == temporary
        with ScratchFolder():
            assert (folder / "head.nii.gz").exists()
        process.send_signal(signal.SIGKILL)
    assert (folder / "head.nii.gz").exists()
    with ScratchFolder() as other:
        assert [*temporary.iterdir()] == [other.parent]


def test_a_folder_is_staged_in_one(temporary):
    with ScratchFolder() as folder, staged(folder / "out") as staging:
        (staging / "note.txt").write_text("moved at the end")
    assert not [*temporary.iterdir()]


def test_one_that_is_just_being_made_stays(temporary, monkeypatch):
    monkeypatch.setattr(scratch, "_UNLOCKED_S", 60.0)
    new = temporary / f"{PREFIX}new"
    new.mkdir()
    remove_abandoned()
    assert new.exists()


def test_one_that_was_left_before_the_clock_was_set_back_goes(temporary, monkeypatch):
    """Images stayed until the clock had reached that time again, if it was years ahead."""
    monkeypatch.setattr(scratch, "_UNLOCKED_S", 60.0)
    left = temporary / f"{PREFIX}left"
    left.mkdir()
    now = time.time()
    monkeypatch.setattr(scratch.time, "time", lambda: now - 3600)
    remove_abandoned()
    assert not left.exists()


def test_a_file_a_link_and_a_folder_of_another_name_stay(temporary):
    target = temporary / "mine"
    target.mkdir()
    (target / "thesis.txt").write_text("all of it")
    (temporary / f"{PREFIX}link").symlink_to(target)
    (temporary / f"{PREFIX}file").write_text("a note")
    before = sorted(temporary.rglob("*"))
    remove_abandoned()
    assert sorted(temporary.rglob("*")) == before


def test_one_that_another_process_removes_meanwhile_is_passed_over(temporary, monkeypatch):
    monkeypatch.setattr(Path, "glob", lambda *_: iter([temporary / f"{PREFIX}gone"]))
    remove_abandoned()
