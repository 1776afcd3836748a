"""An output folder is complete or untouched."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest

from lesionlens.base.errors import ResourceError, UnusableInputError
from lesionlens.base.staging import check_target, staged

OURS = ("a.txt", "b.txt", "dicom/seg.dcm", "dicom/sr.dcm", "edits")


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
    with staged(earlier, ours=OURS) as aside:
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
    with staged(tmp_path / "out", ours=OURS) as aside:
        write(aside, "a.txt")
    assert tree(tmp_path / "out") == {"a.txt": "new"}


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, MemoryError, RuntimeError])
def test_an_interrupted_body_leaves_everything(earlier, stop):
    before = tree(earlier)
    with pytest.raises(stop), staged(earlier, ours=OURS) as aside:
        write(aside, "a.txt", "dicom/seg.dcm")
        raise stop
    assert tree(earlier) == before


@pytest.mark.parametrize("failing", range(8))
def test_a_failure_at_any_move_is_undone(earlier, monkeypatch, failing):
    before, moves, rename = tree(earlier), [], Path.rename

    def flaky(self, target):
        moves.append(self)
        if len(moves) == failing + 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return rename(self, target)

    with pytest.raises(ResourceError, match="full disk"), staged(earlier, ours=OURS) as aside:
        write(aside, "a.txt", "b.txt", "dicom/seg.dcm", "new.txt")
        monkeypatch.setattr(Path, "rename", flaky)
    monkeypatch.undo()
    assert tree(earlier) == before


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


def test_a_signal_during_the_swap_comes_too_late(earlier, monkeypatch):
    rename, before = Path.rename, signal.getsignal(signal.SIGINT)

    def interrupted(self, target):
        os.kill(os.getpid(), signal.SIGINT)
        return rename(self, target)

    with staged(earlier, ours=OURS) as aside:
        write(aside, "a.txt")
        monkeypatch.setattr(Path, "rename", interrupted)
    monkeypatch.undo()
    assert (earlier / "a.txt").read_text() == "new"
    assert signal.getsignal(signal.SIGINT) is before


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
