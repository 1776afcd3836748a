"""Folders and files are complete or untouched, whenever the process ends."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lesionlens.base import storage
from lesionlens.base.errors import LesionLensError, UnusableInputError
from lesionlens.base.storage import (
    check_target,
    listed,
    replaced_folder,
    store_json,
    write_atomically,
    write_listed,
)

OURS = ("a.txt", "b.txt", "dicom/seg.dcm", "dicom/sr.dcm", "edits/1.txt")
LIST = "tables.files.json"


def tree(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): p.read_text() if p.is_file() else "folder"
        for p in sorted(folder.rglob("*"))
        if p.name != storage.RUN
    }


def write(folder: Path, *names: str, text: str = "new") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    if text != "mine":
        content = {"schema": "lesionlens/run/1", "files": storage.rows_of(folder)}
        (folder / storage.RUN).write_text(json.dumps(content))


@pytest.fixture(params=["renamed", "moved in"])
def earlier(request, tmp_path, monkeypatch) -> Path:
    """An earlier result with files of others, in a folder that can be renamed or not."""
    out = tmp_path / "out"
    write(out, *OURS, text="old")
    write(out, "mine.txt", "dicom/mine.txt", text="mine")
    if request.param == "moved in":
        monkeypatch.setattr(os.path, "ismount", lambda _: True)
    return out


def test_new_folder_appears_whole(tmp_path):
    out = tmp_path / "deep" / "out"
    with replaced_folder(out) as new:
        write(new, "a.txt", "dicom/seg.dcm")
        assert not out.exists()
    assert sorted(tree(out)) == ["a.txt", "dicom", "dicom/seg.dcm"]
    assert [p.name for p in out.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, MemoryError, ValueError])
def test_failure_leaves_everything(earlier, tmp_path, stop):
    before = tree(tmp_path)
    for out in (earlier, tmp_path / "deep" / "out"):
        with pytest.raises(stop), replaced_folder(out) as new:
            write(new, "a.txt", "dicom/seg.dcm")
            raise stop
    assert tree(tmp_path) == before


def test_ours_are_replaced_and_files_of_others_stay_whatever_they_are(earlier, tmp_path):
    write(earlier, "edits/mine.txt", "deep/er/mine.txt", text="mine")
    (earlier / "empty").mkdir()
    (earlier / "link").symlink_to(tmp_path)
    (earlier / "deep").chmod(0o750)
    os.utime(earlier / "mine.txt", (7, 7))
    with replaced_folder(earlier) as new:
        write(new, "a.txt", "dicom/seg.dcm")
    found = tree(earlier)
    assert found.pop("link") == "folder"
    assert (earlier / "link").is_symlink()
    assert found == {
        "a.txt": "new", "mine.txt": "mine", "empty": "folder",
        "dicom": "folder", "dicom/seg.dcm": "new", "dicom/mine.txt": "mine",
        "deep": "folder", "deep/er": "folder", "deep/er/mine.txt": "mine",
        "edits": "folder", "edits/mine.txt": "mine",
    }  # fmt: skip
    assert (earlier / "mine.txt").stat().st_mtime == 7
    assert (earlier / "deep").stat().st_mode & 0o777 == 0o750
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("mine", "new"),
    [
        ("mine.txt", "mine.txt"),
        ("dicom/mine.txt", "dicom/mine.txt"),
        ("other/mine.txt", "other"),
        ("other", "other/seg.dcm"),
        ("reserved.txt", "a.txt"),
    ],
)
def test_file_of_another_with_a_name_of_ours_is_refused_by_name(earlier, mine, new):
    write(earlier, mine, text="mine")
    before = tree(earlier)
    with (
        pytest.raises(UnusableInputError, match=mine.split("/")[0]),
        replaced_folder(earlier, reserved=["reserved.txt"]) as folder,
    ):
        write(folder, new)
    assert tree(earlier) == before


def test_edited_file_of_ours_is_refused_by_name_but_a_copied_one_is_replaced(earlier):
    later = time.time() + 60
    os.utime(earlier / "a.txt", (later, later))  # the same content
    with replaced_folder(earlier) as new:
        write(new, *OURS)
    write(earlier, "b.txt", text="mine")
    os.utime(earlier / "b.txt", (later, later))
    before = tree(earlier)
    with pytest.raises(UnusableInputError, match=r"b\.txt"), replaced_folder(earlier) as new:
        write(new, "a.txt")
    assert tree(earlier) == before


def test_nothing_is_written_through_a_link(earlier, tmp_path):
    (earlier / "dicom").rename(tmp_path / "elsewhere")
    (earlier / "dicom").symlink_to(tmp_path / "elsewhere")
    before = tree(tmp_path)
    with pytest.raises(UnusableInputError, match="dicom"), replaced_folder(earlier) as new:
        write(new, "dicom/seg.dcm")
    assert tree(tmp_path) == before
    with replaced_folder(earlier) as new:
        write(new, "a.txt")
    assert tree(tmp_path / "elsewhere") == {"mine.txt": "mine", "seg.dcm": "old", "sr.dcm": "old"}


def test_link_to_the_folder_stays_one(earlier, tmp_path):
    (tmp_path / "link").symlink_to(earlier)
    with replaced_folder(tmp_path / "link") as new:
        write(new, "a.txt")
    assert (tmp_path / "link").is_symlink()
    assert (earlier / "a.txt").read_text() == "new"


def test_list_that_leads_out_of_its_folder_is_not_followed(earlier, tmp_path):
    (tmp_path / "victim").write_text("mine")
    rows = [{"file": name} for name in ("../victim", str(tmp_path / "victim"), "a.txt")]
    run = {"schema": "lesionlens/run/1", "files": rows}
    (earlier / storage.RUN).write_text(json.dumps(run))
    with replaced_folder(earlier) as new:
        write(new, "a.txt")
    assert (tmp_path / "victim").read_text() == "mine"


def test_second_writer_waits_for_the_first(tmp_path):
    out, begun = tmp_path / "out", threading.Event()

    def other() -> None:
        begun.wait()
        with replaced_folder(out) as new:
            write(new, "b.txt")

    thread = threading.Thread(target=other)
    thread.start()
    with replaced_folder(out) as new:
        begun.set()
        time.sleep(0.3)
        storage.finish(out)  # a reader leaves a living writer alone
        write(new, "dicom/seg.dcm")
    thread.join()
    assert tree(out) == {"b.txt": "new"}
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_kill_between_the_two_renames_leaves_the_earlier_result(tmp_path):
    out = tmp_path / "out"
    write(out, *OURS, text="old")
    before = tree(tmp_path)
    out.rename(tmp_path / f".out{storage.OLD}")
    (tmp_path / f".out{storage.NEW}").mkdir()
    storage.finish(out)
    assert tree(tmp_path) == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("way", ["renamed", "moved in", "no locks"])
def test_kill_leaves_the_earlier_result_or_the_new_one(tmp_path, way, step):
    """SIGKILL at any act on files; while entries are moved in, after the next command."""
    script = Path(__file__).with_name("killed.py")
    done = subprocess.run(
        [sys.executable, script, tmp_path / "scratch", way, str(step)],
        capture_output=True, text=True, check=True, timeout=600,
    )  # fmt: skip
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) > 40 / step
    assert {row["after"] for row in rows} == {"old", "new"}
    mixed = [row["at_once"] for row in rows if row["at_once"].startswith("mixed")]
    assert all(way == "moved in" and state.startswith("mixed: old") for state in mixed)
    left = {name for row in rows for name in row["left"]}
    assert left <= ({".out.lesionlens-new"} if way == "no locks" else set())  # for the next writer


@pytest.mark.parametrize("name", ["file", "file/out", "link", "x" * 246, "nul\0"])
def test_target_that_cannot_be_a_folder_is_refused(tmp_path, name):
    write(tmp_path, "file", text="mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UnusableInputError):
        check_target(tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission_is_refused(tmp_path):
    (tmp_path / "out").mkdir(mode=0o500)
    with pytest.raises(UnusableInputError):
        check_target(tmp_path / "out")


def test_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "a.json"
    write_atomically(path, "old")
    with pytest.raises(RuntimeError), storage.atomic_file(path) as temporary:
        assert temporary.suffix == ".json"
        temporary.write_text("half")
        raise RuntimeError
    assert tree(tmp_path) == {"deep": "folder", "deep/a.json": "old"}


def test_listed_files_are_replaced_together_and_files_of_others_refused(tmp_path):
    write_listed(tmp_path, {"a.csv": "one", "b.csv": "one"}, LIST)
    (tmp_path / "mine.csv").write_text("mine")
    before = tree(tmp_path)
    with pytest.raises(LesionLensError, match=r"mine\.csv"):
        write_listed(tmp_path, {"a.csv": "two", "mine.csv": "two"}, LIST)
    assert tree(tmp_path) == before
    (tmp_path / "staged").write_text("two")
    write_listed(tmp_path, {"a.csv": tmp_path / "staged"}, LIST)
    assert (tmp_path / "a.csv").read_text() == "two"
    assert not (tmp_path / "b.csv").exists()
    assert listed(tmp_path, LIST).keys() == {"a.csv", LIST}


def test_a_damaged_file_is_kept_under_another_name(tmp_path, caplog):
    place = tmp_path / "recent.json"
    place.write_text("{ damaged")
    store_json(place, {"a": 1}, "the list")
    assert json.loads(place.read_text()) == {"a": 1}
    assert (tmp_path / "recent.damaged-1.json").read_text() == "{ damaged"
    store_json(place, {"a": 2}, "the list")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["recent.damaged-1.json", "recent.json"]
    assert [r.levelno for r in caplog.records] == [logging.WARNING]


def test_a_file_that_cannot_be_written_is_only_logged(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    store_json(tmp_path / "file" / "list.json", {"a": 1}, "the list")
    assert "the list could not be saved" in caplog.text
