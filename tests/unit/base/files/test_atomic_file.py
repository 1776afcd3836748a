"""A file is replaced whole, or is as it was."""

import os

import pytest

from lesionlens.base.files.atomic_file import atomic_file, write_atomically


def test_a_file_takes_the_place_of_the_earlier_one_in_a_folder_that_is_made(tmp_path):
    place = tmp_path / "new" / "notes.json"
    for text in ("first", "second"):
        with atomic_file(place) as aside:
            aside.write_text(text)
    assert place.read_text() == "second"
    assert [p.name for p in place.parent.iterdir()] == ["notes.json"]


def test_an_error_leaves_the_earlier_file_and_nothing_beside_it(tmp_path):
    place = tmp_path / "notes.json"
    place.write_text("earlier")

    def fail_halfway():
        with atomic_file(place) as aside:
            aside.write_text("ha")
            raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        fail_halfway()
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("notes.json", "earlier")]


def test_others_cannot_read_a_file_while_it_is_written(tmp_path):
    """Also after a kill, which leaves it; a secret key was readable for a moment."""
    tmp_path.chmod(0o755)
    earlier_umask = os.umask(0o022)
    try:
        with atomic_file(tmp_path / "key") as aside, aside.open("wb") as file:
            file.write(b"secret")
            assert aside.stat().st_mode & 0o077 == 0
    finally:
        os.umask(earlier_umask)


def test_two_that_write_one_file_at_once_do_not_mix(tmp_path):
    """Two threads, or two containers whose processes have the same number."""
    place = tmp_path / "label.nii"
    with atomic_file(place) as first, atomic_file(place) as second:
        first.write_text("first, which is longer")
        second.write_text("second")
    assert place.read_text() == "first, which is longer"
    assert [p.name for p in tmp_path.iterdir()] == ["label.nii"]


def test_what_a_killed_process_left_is_deleted_after_a_day(tmp_path):
    """By the next file that is written into the folder, whatever its name."""
    abandoned, at_work = (tmp_path / f".new.{digit * 12}.v1.safetensors" for digit in "ab")
    users = tmp_path / ".new.notes.txt"
    for path in (abandoned, at_work, users):
        path.write_bytes(b"half")
    two_days_ago = at_work.stat().st_mtime - 2 * 86_400
    for path in (abandoned, users):
        os.utime(path, (two_days_ago, two_days_ago))
    write_atomically(tmp_path / "versions.json", "{}")
    assert {p.name for p in tmp_path.iterdir()} == {at_work.name, users.name, "versions.json"}
