"""Scratch folders are private, and go: at their end, or when a killed process left them."""

import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from lesionlens.base.files import scratch
from lesionlens.base.files.scratch import ScratchFolder

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
