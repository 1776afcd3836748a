"""An output folder is complete or untouched."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path

import pytest

from lesionlens.base.errors import ResourceError, UnusableInputError
from lesionlens.base.files import access, exchange, journal, staging
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


def test_an_emptied_folder_of_ours_goes(tmp_path):
    write(tmp_path / "out", "dicom/seg.dcm", text="old")
    with staged(tmp_path / "out", own_files=ours) as aside:
        write(aside, "a.txt")
    assert tree(tmp_path / "out") == {"a.txt": "new"}


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, MemoryError, RuntimeError])
def test_an_interrupted_body_leaves_everything(earlier, stop):
    before = tree(earlier)
    with pytest.raises(stop), staged(earlier, own_files=ours) as aside:
        write(aside, "a.txt", "dicom/seg.dcm")
        raise stop
    assert tree(earlier) == before


def refuse(*_: object, **__: object) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


@pytest.fixture(params=["exchange", "journal", "system", "many files", "no links", "mounted"])
def way(request, monkeypatch) -> str:
    """How folders are swapped: by the system, or where it cannot."""
    if request.param == "journal":
        monkeypatch.setattr("lesionlens.base.files.staging.can_exchange", lambda _: False)
    elif request.param == "system":
        monkeypatch.setattr(exchange, "_renameat2", lambda: None)
    elif request.param == "many files":
        monkeypatch.setattr(exchange, "_MAX_FOREIGN_FILES", 1)
    elif request.param == "no links":
        monkeypatch.setattr(os, "link", refuse)
    elif request.param == "mounted":
        monkeypatch.setattr(os.path, "ismount", lambda path: Path(path).name == "dicom")
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


@pytest.mark.parametrize(
    ("number", "kind", "found"),
    [
        (errno.EACCES, UnusableInputError, "no permission to write into out"),
        (errno.EROFS, UnusableInputError, "no permission to write into out"),
        (errno.EIO, ResourceError, r"the system's refusal to write the result \(Input/output"),
    ],
)
def test_why_a_result_was_not_written_is_stated(earlier, monkeypatch, number, kind, found):
    def failing(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    before = tree(earlier)
    monkeypatch.setattr(staging, "_flush", failing)
    with pytest.raises(kind, match=found), staged(earlier, own_files=ours) as aside:
        write(aside, "a.txt")
    assert tree(earlier) == before


def test_what_others_write_during_the_exchange_stays(earlier, monkeypatch):
    if not exchange.can_exchange(earlier):
        pytest.skip("this system exchanges no folders")
    swap = staging.exchange

    def written_meanwhile(one, other):
        write(other, "late.txt", "sub/late.txt", text="late")
        (other / "saved.txt").write_text("saved again")
        (other / "saved.txt").replace(other / "mine.txt")  # as editors save
        return swap(one, other)

    monkeypatch.setattr(staging, "exchange", written_meanwhile)
    with staged(earlier, own_files=ours) as aside:
        write(aside, "a.txt")
    assert tree(earlier) == {
        "a.txt": "new", "mine.txt": "saved again", "late.txt": "late",
        "dicom": "folder", "dicom/mine.txt": "mine", "sub": "folder", "sub/late.txt": "late",
    }  # fmt: skip


@pytest.mark.usefixtures("way")
def test_every_file_is_on_the_disk_before_an_earlier_one_is_replaced(earlier, monkeypatch, flushed):
    """After a power cut the new files were empty, and the earlier result was gone."""
    unflushed, commit = [], staging._commit

    def check(work, target, files, obsolete, **how):
        paths = [work.new / name for name in files if name != "link"]
        unflushed.extend(path.name for path in paths if path.stat().st_ino not in flushed)
        commit(work, target, files, obsolete, **how)

    monkeypatch.setattr(staging, "_commit", check)
    with staged(earlier, own_files=ours) as place:
        write(place, "a.txt", "dicom/seg.dcm")
        (place / "link").symlink_to("nowhere")
    assert unflushed == []


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


def test_the_working_folder_of_the_user_stays_the_same_folder(earlier, monkeypatch):
    monkeypatch.chdir(earlier)
    before = earlier.stat().st_ino
    with staged(Path(), own_files=ours) as aside:
        write(aside, "a.txt")
    assert earlier.stat().st_ino == before
    assert Path("a.txt").read_text(encoding="utf-8") == "new"


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


@pytest.mark.skipif(not hasattr(os, "chown"), reason="needs groups as on Unix")
@pytest.mark.parametrize("place", [".", "new", "list/new"])
def test_a_folder_that_a_group_shares_passes_its_group_on(tmp_path, monkeypatch, place):
    """As after `chgrp lab FOLDER; chmod g+s FOLDER`."""
    groups = {*os.getgroups(), *(() if os.geteuid() else (4321,))} - {os.getegid()}
    if not groups:
        pytest.skip("this user is in one group only")
    monkeypatch.setenv(access.VARIABLE, "027")
    group, folder = groups.pop(), tmp_path / "shared"
    write(folder, "a.txt", "mine.txt")
    os.chown(folder, -1, group)
    folder.chmod(0o2770)
    with staged(folder / place, own_files=ours) as aside:
        write(aside, "a.txt", "pictures/one.txt")
    write_atomically(folder / place / "reviews" / "later.json", "{}")
    new = [p for p in folder.rglob("*") if p.name != "mine.txt" and p != folder / "a.txt"]
    assert {p.stat().st_gid for p in (folder, folder / place / "a.txt", *new)} == {group}
    assert {p.stat().st_mode & 0o7777 for p in new if p.is_dir()} == {0o2750}


def test_a_disk_that_keeps_no_permissions_can_be_written(tmp_path, monkeypatch, caplog):
    """A share that is mounted for another owner: every result was refused, and a folder left."""

    def refuse(self, mode):
        raise PermissionError(errno.EPERM, "Operation not permitted", str(self))

    monkeypatch.setattr(Path, "chmod", refuse)
    with staged(tmp_path / "deep" / "out") as aside:
        write(aside, "a.txt")
    write_atomically(tmp_path / "deep" / "b.txt", "new")
    assert sorted(tree(tmp_path / "deep")) == ["b.txt", "out", "out/a.txt"]
    assert caplog.text.count("the disk keeps no permissions") <= 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has access control lists")
def test_a_disk_that_ignores_permissions_is_reported(tmp_path, monkeypatch, caplog):
    """FAT and exFAT accept each change of permissions and keep none."""
    write(tmp_path, "b.txt")
    (tmp_path / "b.txt").chmod(0o644)
    monkeypatch.setattr(Path, "chmod", lambda _path, _mode: None)
    access._warn_of_disk.cache_clear()
    access.restrict(tmp_path / "b.txt")
    assert caplog.text.count("the disk keeps no permissions") == 1


@pytest.mark.usefixtures("way")
def test_no_hidden_folder_stays_where_open_files_are_kept(earlier, monkeypatch):
    """NFS and FUSE keep a removed file until it is closed: each result left an empty folder."""
    opened, os_open, os_close, rmtree = set(), os.open, os.close, shutil.rmtree

    def open_file(path, *rest, **named):
        number = os_open(path, *rest, **named)
        if str(path).endswith("/lock"):
            opened.add(number)
        return number

    def close_file(number):
        opened.discard(number)
        os_close(number)

    def remove(path, **named):
        rmtree(path, **named)
        if opened and Path(path).name.startswith(".lesionlens-"):
            write(Path(path), ".nfs0001")

    monkeypatch.setattr(os, "open", open_file)
    monkeypatch.setattr(os, "close", close_file)
    monkeypatch.setattr(shutil, "rmtree", remove)
    with staged(earlier, own_files=ours) as aside:
        write(aside, "a.txt")
    monkeypatch.undo()
    assert [p.name for p in earlier.parent.rglob("*") if p.name.startswith(".")] == []
    assert (earlier / "mine.txt").exists()


@pytest.mark.parametrize("text", ["0777", "me", "-1", ""])
def test_an_impossible_wish_for_permissions_is_refused(tmp_path, monkeypatch, text):
    monkeypatch.setenv(access.VARIABLE, text)
    with pytest.raises(UnusableInputError, match="LESIONLENS_UMASK"):
        write_atomically(tmp_path / "a", "b")


def test_a_user_folder_is_never_replaced_by_a_file(tmp_path):
    write(tmp_path / "out", "a.txt/mine.txt", text="mine")
    with (
        pytest.raises(UnusableInputError, match=r"a folder named a\.txt"),
        staged(tmp_path / "out") as aside,
    ):
        write(aside, "a.txt")
    assert tree(tmp_path / "out") == {"a.txt": "folder", "a.txt/mine.txt": "mine"}


def test_a_user_file_is_never_replaced_by_a_folder(tmp_path):
    write(tmp_path / "out", "dicom", text="mine")
    with (
        pytest.raises(UnusableInputError, match="a file named dicom"),
        staged(tmp_path / "out") as aside,
    ):
        write(aside, "dicom/seg.dcm")
    assert tree(tmp_path / "out") == {"dicom": "mine"}


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


def test_a_working_folder_recovered_before_its_lock_is_made_again(tmp_path, monkeypatch):
    """Another process looked between its creation and its lock, and removed it."""
    out, removed = tmp_path / "out", []

    def recovering(folder, mode):
        if not removed:
            journal.recover(out)
            removed.append(not folder.exists())
        access.change_mode(folder, mode)

    monkeypatch.setattr(journal, "change_mode", recovering)
    with staged(out) as aside:
        write(aside, "a.txt")
    assert removed == [True]
    assert sorted(tree(out)) == ["a.txt"]


@pytest.mark.parametrize("failing", ["mkdir", "open"])
def test_a_disk_without_room_for_the_hidden_folder_leaves_none(earlier, monkeypatch, failing):
    """With the last inode used up, an empty one stayed beside the result."""
    before, call = tree(earlier.parent), getattr(os, failing)

    def full(path, *how, **options):
        if str(path).endswith(("/new", "/lock")):
            raise OSError(errno.ENOSPC, "No space left on device")
        return call(path, *how, **options)

    monkeypatch.setattr(os, failing, full)
    with pytest.raises(ResourceError, match="a full disk"), staged(earlier, own_files=ours):
        pass
    monkeypatch.undo()
    assert tree(earlier.parent) == before
    assert not [*earlier.parent.glob(".lesionlens-*")]


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


def test_a_signal_handler_of_a_program_that_embeds_python_stays(earlier, monkeypatch):
    """Its SIGTERM killed the program after it had saved a result."""
    changed = []
    monkeypatch.setattr(signal, "getsignal", lambda _: None)
    monkeypatch.setattr(signal, "signal", lambda *how: changed.append(how))
    with staged(earlier, own_files=ours) as aside:
        write(aside, "a.txt")
    monkeypatch.undo()
    assert (earlier / "a.txt").read_text() == "new"
    assert changed == []


def test_a_target_below_a_file_is_refused(tmp_path):
    write(tmp_path, "file")
    for target in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(UnusableInputError, match="a file where"):
            check_target(target)


def test_a_link_that_leads_nowhere_is_refused(tmp_path):
    (tmp_path / "out").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UnusableInputError, match="leads nowhere"):
        check_target(tmp_path / "out")


@pytest.mark.parametrize("name", ["x" * 300, "nul\0"])
def test_an_impossible_name_is_refused(tmp_path, name):
    with pytest.raises(UnusableInputError), staged(tmp_path / name):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused(tmp_path):
    (tmp_path / "out").mkdir(mode=0o500)
    with pytest.raises(UnusableInputError, match="permission"):
        check_target(tmp_path / "out")
