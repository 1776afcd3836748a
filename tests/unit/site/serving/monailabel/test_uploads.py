"""Images sent for a while are private, and go: in time, or with the server."""

import io
import tempfile
import time

import pytest

pytest.importorskip("fastapi")

from lesionlens.base.errors import FullError, GoneError, UnusableInputError
from lesionlens.site.serving.monailabel.uploads import MAX_UPLOADS_EACH, Uploads

ROOM = 2**20


def scan(name="scan.nii.gz", content=b"voxels"):
    return name, io.BytesIO(content)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_one_is_kept_for_its_owner_until_it_expires(folder):
    uploads = Uploads(ROOM)
    assert not [*folder.iterdir()]  # nothing is made before it is needed
    name, upload = uploads.add("me", [scan()], 10)
    assert upload.image.read_bytes() == b"voxels"
    with pytest.raises(GoneError):
        uploads.find("another", name)
    upload.last_used -= 11
    with pytest.raises(GoneError):
        uploads.find("me", name)
    assert not upload.image.exists()
    uploads.end()
    assert not [*folder.iterdir()]


def test_one_that_a_waiting_analysis_needs_does_not_expire(folder):
    uploads = Uploads(ROOM)
    name, upload = uploads.add("me", [scan()], 10)
    with uploads.in_use("me", name) as held:
        upload.last_used -= 11
        uploads.expire()
        assert held.image.read_bytes() == b"voxels"
    assert uploads.find("me", name) is upload  # its time begins anew
    upload.last_used -= 11
    with pytest.raises(GoneError), uploads.in_use("me", name):
        pass
    uploads.end()


def test_one_that_is_removed_while_an_analysis_reads_it_is_deleted_afterwards(folder):
    """Of a series that was deleted meanwhile, some images could be analysed as the whole."""
    removed = []
    uploads = Uploads(ROOM, removed.append)
    name, upload = uploads.add("me", [scan("1.nii"), scan("2.nii")], 10)
    with uploads.in_use("me", name), uploads.in_use("me", name) as held:
        uploads.remove("me", name)
        assert len([*held.image.iterdir()]) == 2
        with pytest.raises(GoneError):
            uploads.find("me", name)
        assert removed == []
    assert not upload.image.exists()
    assert removed == [upload]
    uploads.end()


def test_a_clock_that_is_set_ends_and_prolongs_nothing(folder, monkeypatch):
    uploads = Uploads(ROOM)
    name, upload = uploads.add("me", [scan()], 10)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 86400)
    assert uploads.find("me", name) is upload
    monkeypatch.setattr(time, "time", lambda: now - 86400)
    upload.last_used -= 11
    with pytest.raises(GoneError):
        uploads.find("me", name)
    uploads.end()


def test_what_is_kept_is_bounded_for_a_key_and_for_all(folder):
    uploads = Uploads(100)
    for _ in range(MAX_UPLOADS_EACH):
        uploads.add("me", [scan(content=b"x")], 10)
    with pytest.raises(FullError, match=f"at most {MAX_UPLOADS_EACH}"):
        uploads.add("me", [scan()], 10)
    uploads.add("another", [scan(content=bytes(84))], 10)
    with pytest.raises(FullError, match="MB of all keys"):
        uploads.add("a third", [scan(content=b"x")], 10)
    uploads.end()


def test_files_of_one_name_are_refused_and_leave_nothing(folder):
    uploads = Uploads(ROOM)
    with pytest.raises(UnusableInputError, match="two files"):
        uploads.add("me", [scan("a.nii.gz"), scan("a.nii.gz")], 10)
    assert not [*folder.glob("*/files/*")]
    uploads.end()
