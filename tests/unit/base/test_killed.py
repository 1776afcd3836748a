"""SIGKILL at any act of a swap leaves the earlier result or the new one, whole."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from lesionlens.base.files.exchange import exchange
from lesionlens.base.files.journal import recover, work_folder

pytestmark = pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs fork")


def _killed(tmp_path: Path, way: str) -> list[dict[str, str]]:
    script = Path(__file__).with_name("killed.py")
    done = subprocess.run(
        [sys.executable, script, tmp_path / "scratch", way],
        capture_output=True, text=True, check=True, timeout=600,
    )  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def exchanging(tmp_path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    if not exchange(tmp_path / "one", tmp_path / "other"):
        pytest.skip("this system exchanges no folders")


@pytest.mark.usefixtures("exchanging")
def test_an_exchange_is_whole_at_every_moment(tmp_path):
    rows = _killed(tmp_path, "exchange")
    assert len(rows) > 40
    assert Counter(row["at_once"] for row in rows).keys() == {"old", "new"}
    assert all(row["after"] == row["at_once"] and not row["left"] for row in rows)


@pytest.mark.parametrize("way", ["journal", "no locks"])
def test_a_journal_makes_the_folder_whole_at_the_next_start(tmp_path, way):
    rows = _killed(tmp_path, way)
    assert len(rows) > 40
    assert any(row["at_once"].startswith("mixed") for row in rows)  # the kills do hit the swap
    assert Counter(row["after"] for row in rows).keys() == {"old", "new"}
    assert not [row for row in rows if row["left"]]


def test_a_journal_that_leads_out_of_its_folder_is_not_followed(tmp_path):
    out, hidden = tmp_path / "out", tmp_path / "out" / ".lesionlens-0123456789ab"
    hidden.mkdir(parents=True)
    (hidden / "new").mkdir()
    (tmp_path / "victim").write_text("mine")
    (out / "link").symlink_to(tmp_path)
    names = ["../victim", str(tmp_path / "victim"), "link/victim"]
    (hidden / "journal.json").write_text(json.dumps({"files": names, "made": ["../empty"]}))
    (tmp_path / "empty").mkdir()
    recover(out)
    assert (tmp_path / "victim").read_text() == "mine"
    assert (tmp_path / "empty").is_dir()


def test_on_a_disk_without_locks_a_living_writer_is_left_alone(tmp_path, monkeypatch):
    def refuse_lock(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refuse_lock)
    target = tmp_path / "out"
    target.mkdir()
    with work_folder(target, target) as work:
        (work.new / "a").write_text("new")
        recover(target)
        assert (work.new / "a").exists()
        lock = work.folder / "lock"
        host, _, process = lock.read_text().partition("\n")
        lock.write_text(f"another machine\n{process}")
        recover(target)
        assert (work.new / "a").exists()
        lock.write_text(f"{host}\n{process.partition(' ')[0]} 1")  # the number was given again
        recover(target)
        assert not work.folder.exists()
