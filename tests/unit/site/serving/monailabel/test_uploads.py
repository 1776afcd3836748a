"""Images sent for a while are private, and go: in time, with the server, or after a kill."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

from lesionlens.base.errors import GoneError
from lesionlens.site.serving.monailabel.uploads import Uploads, own_prefix


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_one_is_kept_for_its_owner_until_it_expires(folder):
    uploads = Uploads()
    assert not [*folder.iterdir()]  # nothing is made before it is needed
    name, upload = uploads.add("me", [("scan.nii.gz", b"voxels")], 10)
    assert upload.image.read_bytes() == b"voxels"
    with pytest.raises(GoneError):
        uploads.find("another", name)
    upload.used -= 11
    with pytest.raises(GoneError):
        uploads.find("me", name)
    assert not upload.image.exists()
    uploads.end()
    assert not [*folder.iterdir()]


@pytest.mark.skipif(os.name != "posix", reason="processes are looked up as POSIX has them")
def test_what_a_killed_server_left_is_removed_by_the_next(folder):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = Path(folder) / f"lesionlens-serve-{dead.pid}-abc"
    alive = Path(folder) / f"{own_prefix()}abc"
    for place in (left, alive):
        (place / "name").mkdir(parents=True)
    Uploads()
    assert not left.exists()
    assert alive.exists()
