"""Lists in folders that this user may read and not write."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from contextlib import closing

import pytest

from lesionlens.site.database.records import StudyEntry
from lesionlens.site.database.worklist_database import (
    existing_worklist_database,
    open_worklist_database,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="permissions as Linux has them")
_DROP_FROM_BOUNDING_SET, _DAC_OVERRIDE, _DAC_READ_SEARCH = 24, 1, 2


def without_override():
    """Make root obey the permissions of files, as everybody does."""
    if os.geteuid() == 0:
        for power in (_DAC_OVERRIDE, _DAC_READ_SEARCH):
            ctypes.CDLL(None).prctl(_DROP_FROM_BOUNDING_SET, power, 0, 0, 0)


def run_read_only(folder, *command, mode=0o400):
    """Run a command while `folder` is read-only; nothing may change there."""
    for path in folder.iterdir():
        path.chmod(mode)
    folder.chmod(0o500)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "lesionlens", *command],
            check=False,
            preexec_fn=without_override,
            capture_output=True,
            text=True,
            timeout=300,
        )
    finally:
        folder.chmod(0o700)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    return done


def killed_while_writing(folder):
    code = (
        "import os, pathlib, sys\n"
        "from lesionlens.site.database import records, worklist_database as lists\n"
        "database = lists.open_worklist_database(pathlib.Path(sys.argv[1]))\n"
        "database.add_studies([records.StudyEntry('one', '/x')])\n"
        "os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=False, timeout=300)
    assert (folder / "studies.sqlite-wal").stat().st_size


def closed_well(folder, *, readers):
    with closing(open_worklist_database(folder, readers=readers)) as database:
        database.add_studies([StudyEntry("one", "/x")])


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: closed_well(folder, readers=True),
        lambda folder: closed_well(folder, readers=False),
        killed_while_writing,
    ],
    ids=["of readers", "of a batch", "after a kill"],
)
def test_a_list_in_a_read_only_folder_is_shown(tmp_path, write):
    write(tmp_path / "list")
    done = run_read_only(tmp_path / "list", "worklist", "show", str(tmp_path / "list"), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["name"] == "one"


def test_a_list_that_is_only_shown_stays_as_a_batch_wrote_it(tmp_path):
    """It was turned to a write-ahead log, which works on no network share and needs room."""
    closed_well(tmp_path / "list", readers=False)
    before = (tmp_path / "list" / "studies.sqlite").read_bytes()
    with existing_worklist_database(tmp_path / "list", reading=True) as database:
        assert [entry.name for entry in database.entries()] == ["one"]
    assert (tmp_path / "list" / "studies.sqlite").read_bytes() == before
