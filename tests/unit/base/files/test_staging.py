"""An output folder is complete or untouched."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import threading
import time
from contextlib import nullcontext
from pathlib import Path

import pytest

from lesionlens.base.errors import ResourceError, UnusableInputError
from lesionlens.base.files import access, staging
from lesionlens.base.files.atomic_file import write_atomically
from lesionlens.base.files.staging import check_target, staged
from lesionlens.base.process.interrupts import SIGNALS

NAMES = ("a.txt", "b.txt", "dicom/seg.dcm", "dicom/sr.dcm", "edits/1.txt")


def ours(_: Path) -> dict[str, str | None]:
    return dict.fromkeys(NAMES)


def tree(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): p.read_text() if p.is_file() else "folder"
        for p in sorted(folder.rglob("*"))
    }


def write(folder: Path, *names: str, text: str = "new") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """A folder that holds an earlier result and files of the user's own."""
    out = tmp_path / "out"
    write(out, "a.txt", "b.txt", "dicom/seg.dcm", "dicom/sr.dcm", "edits/1.txt", text="old")
    write(out, "mine.txt", "dicom/mine.txt", text="mine")
    return out


def test_a_new_folder_appears_whole(tmp_path):
    with staged(tmp_path / "deep" / "out") as aside:
        write(aside, "a.txt", "dicom/seg.dcm")
        assert not (tmp_path / "deep" / "out").exists()
    assert sorted(tree(tmp_path / "deep" / "out")) == ["a.txt", "dicom", "dicom/seg.dcm"]
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["out"]


def test_a_failure_leaves_no_folder_behind(tmp_path):
    with pytest.raises(ValueError, match="broken"), staged(tmp_path / "deep" / "out") as aside:
        write(aside, "a.txt")
        raise ValueError("broken")
    assert list(tmp_path.iterdir()) == []


def test_ours_are_replaced_and_files_of_others_stay(earlier):
    with staged(earlier, own_files=ours) as aside:
        write(aside, "a.txt", "dicom/sr.dcm")
    assert tree(earlier) == {
        "a.txt": "new",
        "dicom": "folder",
        "dicom/mine.txt": "mine",
        "dicom/sr.dcm": "new",
        "mine.txt": "mine",
    }


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, MemoryError, RuntimeError])
def test_an_interrupted_body_leaves_everything(earlier, stop):
    before = tree(earlier)
    with pytest.raises(stop), staged(earlier, own_files=ours) as aside:
        write(aside, "a.txt", "dicom/seg.dcm")
        raise stop
    assert tree(earlier) == before


@pytest.fixture(params=["exchange", "journal"])
def way(request, monkeypatch) -> str:
    """How folders are swapped: by the system, or where it cannot."""
    if request.param == "journal":
        monkeypatch.setattr("lesionlens.base.files.staging.can_exchange", lambda _: False)
    return request.param


@pytest.mark.parametrize("failing", range(9))
def test_a_failure_at_any_move_is_undone(earlier, monkeypatch, failing):
    before, moves, rename = tree(earlier), [], Path.rename

    def flaky(self, target):
        moves.append(self)
        if len(moves) == failing + 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr("lesionlens.base.files.staging.can_exchange", lambda _: False)
    with pytest.raises(ResourceError, match="full disk"), staged(earlier, own_files=ours) as aside:
        write(aside, "a.txt", "b.txt", "dicom/seg.dcm", "new.txt")
        monkeypatch.setattr(Path, "rename", flaky)
    monkeypatch.undo()
    assert tree(earlier) == before


@pytest.mark.usefixtures("way")
def test_files_of_others_stay_whatever_they_are(earlier, tmp_path):
    write(earlier, "edits/mine.txt", "deep/er/mine.txt", text="mine")
    (earlier / "empty").mkdir()
    (earlier / "link").symlink_to(tmp_path)
    (earlier / "deep").chmod(0o750)
    os.utime(earlier / "mine.txt", (7, 7))
    with staged(earlier, own_files=ours) as aside:
        write(aside, "a.txt", "dicom/seg.dcm")
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
    assert (earlier / "mine.txt").stat().st_nlink == 1
    assert (earlier / "deep").stat().st_mode & 0o777 == 0o750
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("name", ["mine.txt", "dicom/mine.txt"])
def test_a_file_of_another_with_a_name_of_ours_is_refused_by_name(earlier, name):
    before = tree(earlier)
    with (
        pytest.raises(UnusableInputError, match=f"not of an earlier result: {name}"),
        staged(earlier, own_files=ours) as aside,
    ):
        write(aside, "a.txt", name)
    assert tree(earlier) == before


@pytest.mark.usefixtures("way")
def test_a_file_of_ours_that_somebody_changed_is_refused_by_name(earlier):
    before = tree(earlier)
    digest = hashlib.sha256(b"as it was written").hexdigest()
    with (
        pytest.raises(UnusableInputError, match=r"changed since .*: b\.txt"),
        staged(earlier, own_files=lambda _: {**ours(_), "b.txt": digest}) as aside,
    ):
        write(aside, "a.txt")
    assert tree(earlier) == before


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("written", ["dicom/seg.dcm", "a.txt"])
def test_nothing_is_written_or_removed_through_a_link(earlier, tmp_path, written):
    (earlier / "dicom").rename(tmp_path / "elsewhere")
    (earlier / "dicom").symlink_to(tmp_path / "elsewhere")
    before = tree(tmp_path)
    refused = pytest.raises(UnusableInputError, match="a link named dicom")
    with refused if "/" in written else nullcontext(), staged(earlier, own_files=ours) as aside:
        write(aside, written)
    assert tree(tmp_path / "elsewhere") == {
        "mine.txt": "mine", "seg.dcm": "old", "sr.dcm": "old"
    }  # fmt: skip
    if "/" in written:
        assert tree(tmp_path) == before


@pytest.mark.usefixtures("way")
def test_a_link_to_the_folder_stays_one(earlier, tmp_path):
    (tmp_path / "link").symlink_to(earlier)
    with staged(tmp_path / "link", own_files=ours) as aside:
        write(aside, "a.txt")
    assert (tmp_path / "link").is_symlink()
    assert (earlier / "a.txt").read_text() == "new"


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
@pytest.mark.parametrize(("asked", "folder", "file"), [
    (None, 0o700, 0o600), ("027", 0o750, 0o640), ("022", 0o755, 0o644),
])  # fmt: skip
def test_what_is_written_is_its_owners_unless_asked_otherwise(
    earlier, monkeypatch, umask, asked, folder, file
):
    if asked is not None:
        monkeypatch.setenv(access.VARIABLE, asked)
    was = os.umask(umask)
    try:
        for target in (earlier, earlier.parent / "deep" / "out"):
            with staged(target, own_files=ours) as aside:
                write(aside, "a.txt", "pictures/one.txt")
            write_atomically(target / "later.json", "{}")
    finally:
        os.umask(was)
    modes = {p.name: p.stat().st_mode & 0o777 for p in target.rglob("*")}
    assert modes == {"a.txt": file, "later.json": file, "pictures": folder, "one.txt": file}
    assert {p.stat().st_mode & 0o777 for p in (target, target.parent)} == {folder}
    assert (earlier / "a.txt").stat().st_mode & 0o777 == file


@pytest.mark.skipif(os.name == "nt", reason="folders have no locks there")
def test_two_that_replace_a_folder_at_once_do_not_mix(tmp_path):
    """The second asks what is there only when the first has replaced it."""
    out, waits, asked = tmp_path / "out", threading.Event(), []

    def listed(name):
        def ours(place):
            asked.append((name, sorted(tree(place)) if place.exists() else []))
            if name == "one":
                waits.set()
                time.sleep(0.3)
            return dict.fromkeys(NAMES)

        return ours

    def other():
        with staged(out, own_files=listed("two")) as aside:
            write(aside, "b.txt")
            waits.wait()

    thread = threading.Thread(target=other)
    thread.start()
    with staged(out, own_files=listed("one")) as aside:
        write(aside, "dicom/seg.dcm")
    thread.join()
    assert asked == [("one", []), ("two", ["dicom", "dicom/seg.dcm"])]
    assert sorted(tree(out)) == ["b.txt"]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_during_the_swap_comes_too_late(earlier, monkeypatch, number):
    commit, before = staging._commit, signal.getsignal(number)

    def interrupted(*args, **how):
        os.kill(os.getpid(), number)
        return commit(*args, **how)

    monkeypatch.setattr(staging, "_commit", interrupted)
    with staged(earlier, own_files=ours) as aside:
        write(aside, "a.txt")
    monkeypatch.undo()
    assert (earlier / "a.txt").read_text() == "new"
    assert signal.getsignal(number) is before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused(tmp_path):
    (tmp_path / "out").mkdir(mode=0o500)
    with pytest.raises(UnusableInputError, match="permission"):
        check_target(tmp_path / "out")


@pytest.mark.parametrize(("mine", "new"), [("a.txt/mine.txt", "a.txt"), ("dicom", "dicom/seg.dcm")])
def test_a_file_and_a_folder_never_replace_each_other(tmp_path, mine, new):
    write(tmp_path / "out", mine, text="mine")
    before = tree(tmp_path / "out")
    with pytest.raises(UnusableInputError), staged(tmp_path / "out") as aside:
        write(aside, new)
    assert tree(tmp_path / "out") == before


@pytest.mark.parametrize("name", ["file", "file/out", "link", "x" * 300, "nul\0"])
def test_a_target_that_cannot_be_a_folder_is_refused(tmp_path, name):
    write(tmp_path, "file")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UnusableInputError):
        check_target(tmp_path / name)
