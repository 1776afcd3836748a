"""What the server's system refuses is said to the client, and to nobody where the files lie."""

import errno
import io
import logging
import tempfile
import zipfile

import pytest
import requests

pytest.importorskip("fastapi")

from tests.helpers.local_server import QuickEngine, serving

LARGE = bytes(2**21)  # more than a form keeps in memory


def refused(answer, why):
    assert answer.status_code == 500
    assert answer.json()["code"] == "ResourceError"
    assert answer.json()["found"].endswith(f"its files: {why}")
    return answer.text


def zipped():
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("study/t1c.nii", bytes(1000))
    return content.getvalue()


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("PUT", "/session/", "files"),
        ("POST", "/infer/quick", "file"),
        ("PUT", "/datastore/?image=Miller", "file"),
    ],
)
def test_a_body_that_cannot_be_stored_is_no_fault_of_the_client(
    method, path, name, tmp_path, monkeypatch, caplog
):
    with serving({"quick": QuickEngine()}, datastore=tmp_path) as server:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "Miller" / "gone"))
        files = {name: ("Miller_t1c.nii", LARGE)}
        answer = requests.request(method, server.url + path, files=files, timeout=20)
    said = refused(answer, "No such file or directory") + caplog.text
    assert "Miller" not in said


def test_a_datastore_that_cannot_be_written_is_reported(tmp_path, caplog):
    (tmp_path / "Miller_t1c.nii").write_bytes(b"image")
    (tmp_path / "labels").write_bytes(b"no folder")
    with serving({"quick": QuickEngine()}, datastore=tmp_path) as server:
        label = {"label": ("label.nii", b"voxels")}
        url = f"{server.url}/datastore/label?image=Miller_t1c"
        answer = requests.put(url, files=label, timeout=20)
        assert requests.get(f"{server.url}/healthz", timeout=20).ok
    assert "Miller" not in refused(answer, "Not a directory") + caplog.text


def test_an_archive_that_does_not_fit_on_the_disk_is_not_called_damaged(monkeypatch, caplog):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "/data/Miller")

    monkeypatch.setattr(zipfile.ZipFile, "extractall", full)
    with serving({"quick": QuickEngine()}) as server, caplog.at_level(logging.INFO):
        files = {"file": ("study.zip", zipped())}
        answer = requests.post(f"{server.url}/infer/quick", files=files, timeout=20)
    assert "Miller" not in refused(answer, "a full disk") + caplog.text
