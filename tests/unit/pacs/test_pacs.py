"""Find, get and send against a real Orthanc on loopback, by DICOMweb and by DIMSE."""

import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("dicomweb_client")
pytest.importorskip("pynetdicom")

from lesionlens.base.errors import CancelledError, ResourceError, UnusableInputError
from lesionlens.base.labels import MrSequence
from lesionlens.pacs import web
from lesionlens.pacs.credentials import PASSWORD_VARIABLE, login
from lesionlens.pacs.peer import Query, connect
from lesionlens.phantoms.files import write_dicom
from lesionlens.phantoms.headers import NOBODY
from lesionlens.phantoms.simple import make_patient
from lesionlens.study.readers import open_study

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
USER, PASSWORD = "reader", "a pass phrase"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory):
    """A running Orthanc with a password; its two addresses."""
    program = shutil.which("Orthanc")
    if program is None or not PLUGIN.exists():
        pytest.skip("Orthanc with its DICOMweb plug-in is not installed")
    folder = tmp_path_factory.mktemp("orthanc")
    http, dicom = free_port(), free_port()
    settings = {
        "Name": "TEST", "StorageDirectory": "db", "IndexDirectory": "db", "HttpPort": http,
        "RemoteAccessAllowed": False, "AuthenticationEnabled": True,
        "RegisteredUsers": {USER: PASSWORD}, "DicomServerEnabled": True, "DicomAet": "ORTHANC",
        "DicomPort": dicom, "Plugins": [str(PLUGIN)], "DicomAlwaysAllowGet": True,
        "DicomAlwaysAllowFind": True, "DicomAlwaysAllowStore": True,
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([program, "orthanc.json"], cwd=folder, stdout=log, stderr=log)
    try:
        wait_for(http)
        yield f"http://127.0.0.1:{http}/dicom-web", f"dicom://ORTHANC@127.0.0.1:{dicom}"
    finally:
        process.terminate()
        process.wait(30)


def wait_for(port):
    for _ in range(300):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/system", timeout=5).close()
        except urllib.error.HTTPError:
            return  # it asks for a password: it is up
        except OSError:
            time.sleep(0.2)
    pytest.fail("Orthanc did not start")


@pytest.fixture(scope="module")
def sent(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sent")
    write_dicom(make_patient(spacing_mm=12.0), folder, sequences=("t1c", "flair"))
    return folder


@pytest.fixture(params=[0, 1], ids=["dicomweb", "dimse"])
def archive(orthanc, request, monkeypatch):
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    return connect(orthanc[request.param], user=USER)


def files_of(folder):
    return sorted(p for p in folder.rglob("*") if p.is_file())


def test_what_is_sent_is_found_and_comes_back_the_same(archive, sent, tmp_path):
    files = files_of(sent)
    assert archive.send(files) == len(files)
    uid = NOBODY.uid("study")
    assert uid in [study.study_uid for study in archive.find(Query(patient_id=NOBODY.patient_id))]
    assert archive.get(uid, tmp_path / "got") == len(files)
    got, was = open_study(tmp_path / "got"), open_study(sent)
    for sequence in (MrSequence.T1C, MrSequence.FLAIR):
        assert got.series[sequence].grid.matches(was.series[sequence].grid)
        assert (got.series[sequence].load() == was.series[sequence].load()).all()


def test_a_request_to_stop_leaves_no_half_study(archive, sent, tmp_path):
    archive.send(files_of(sent))
    stop = threading.Event()
    with pytest.raises(CancelledError):
        archive.get(
            NOBODY.uid("study"), tmp_path / "got", progress=lambda *_: stop.set(), cancel=stop
        )
    assert not (tmp_path / "got").exists()
    assert not list(tmp_path.iterdir())


def test_a_study_that_is_not_there_is_refused(archive, tmp_path):
    with pytest.raises((UnusableInputError, ResourceError)):
        archive.get("1.2.3.4", tmp_path / "got")
    assert not (tmp_path / "got").exists()


def test_a_folder_with_content_is_not_mixed(archive, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UnusableInputError, match="already"):
        archive.get("1.2.3.4", tmp_path)


def test_a_wrong_password_is_told_without_showing_it(orthanc, monkeypatch):
    monkeypatch.setenv(PASSWORD_VARIABLE, "wrong secret")
    with pytest.raises(ResourceError, match="401") as caught:
        connect(orthanc[0], user=USER).find(Query())
    assert "secret" not in str(caught.value)


def test_fewer_images_than_promised_leave_nothing(orthanc, sent, tmp_path, monkeypatch):
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    archive = connect(orthanc[0], user=USER)
    archive.send(files_of(sent))
    original = web.DICOMwebClient.iter_study

    def broken(self, *args, **options):
        yield from list(original(self, *args, **options))[:3]

    monkeypatch.setattr(web.DICOMwebClient, "iter_study", broken)
    with pytest.raises(ResourceError, match="3 of the study's"):
        archive.get(NOBODY.uid("study"), tmp_path / "got")
    assert not list(tmp_path.iterdir())


# pynetdicom leaves the socket of a refused connection to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("address", ["http://127.0.0.1:9/x", "dicom://A@127.0.0.1:9"])
def test_an_archive_that_does_not_answer_is_named(address):
    with pytest.raises(ResourceError, match="no usable answer"):
        connect(address).find(Query())


@pytest.mark.parametrize("address", ["ftp://x", "pacs", "dicom://host:104", ""])
def test_an_address_of_another_kind_is_refused(address):
    with pytest.raises(UnusableInputError, match="AETITLE"):
        connect(address)


def test_a_password_never_travels_unencrypted(monkeypatch):
    monkeypatch.setenv(PASSWORD_VARIABLE, "x")
    with pytest.raises(UnusableInputError, match="https"):
        login("http://pacs.example/dicom-web", "me")
    assert login("https://pacs.example/dicom-web", "me") == ("me", "x")


def test_a_user_without_a_password_is_told_where_to_put_it(monkeypatch):
    monkeypatch.delenv(PASSWORD_VARIABLE, raising=False)
    with pytest.raises(UnusableInputError, match="keyring"):
        login("https://pacs.example", "me")
