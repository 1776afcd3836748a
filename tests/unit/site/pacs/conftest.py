"""Orthanc servers on loopback, with and without TLS, and connections that break."""

from __future__ import annotations

import gc
import json
import math
import shutil
import socket
import ssl
import subprocess
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pydicom
import pytest

pytest.importorskip("dicomweb_client")
pytest.importorskip("pynetdicom")

from tests.helpers.ports import free_port
from tests.phantoms.files import write_dicom
from tests.phantoms.headers import NOBODY

from lesionlens.site.pacs.connect import connect
from lesionlens.site.pacs.credentials import PASSWORD_VARIABLE, USER_VARIABLE
from lesionlens.site.pacs.server import Retrieval, Server
from lesionlens.testing import make_patient

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
USER, PASSWORD = "reader", "a pass phrase"
STUDY = NOBODY.uid("study")


@pytest.fixture(autouse=True, scope="module")
def sockets_end_here() -> Iterator[None]:
    """Collect sockets that pynetdicom leaves unclosed, in the module that opened them."""
    yield
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        gc.collect()


@dataclass(frozen=True)
class Running:
    """A running Orthanc: its ports, and the port that it sends to by C-MOVE."""

    http: int
    dicom: int
    move_port: int
    secure: bool = False
    kill: Callable[[], None] = lambda: None

    @property
    def web(self) -> str:
        """The DICOMweb address."""
        return f"http{'s' if self.secure else ''}://127.0.0.1:{self.http}/dicom-web"

    @property
    def dimse(self) -> str:
        """The DIMSE address."""
        return f"dicom{'s' if self.secure else ''}://ORTHANC@127.0.0.1:{self.dicom}"


@contextmanager
def running(folder: Path, *, allow_get: bool = True, **more: object) -> Iterator[Running]:
    """Run an Orthanc in a folder during the block."""
    program = shutil.which("Orthanc")
    if program is None or not PLUGIN.exists():
        pytest.skip("Orthanc with its DICOMweb plug-in is not installed")
    it = Running(free_port(), free_port(), free_port(), secure="DicomTlsEnabled" in more)
    settings = {
        "Name": "TEST", "StorageDirectory": "db", "IndexDirectory": "db", "HttpPort": it.http,
        "RemoteAccessAllowed": False, "AuthenticationEnabled": True,
        "RegisteredUsers": {USER: PASSWORD}, "DicomServerEnabled": True, "DicomAet": "ORTHANC",
        "DicomPort": it.dicom, "Plugins": [str(PLUGIN)], "DicomAlwaysAllowGet": allow_get,
        "DicomAlwaysAllowFind": True, "DicomAlwaysAllowStore": True, "DicomAlwaysAllowMove": True,
        "DicomModalities": {
            "lens": {
                "AET": "LESIONLENS", "Host": "127.0.0.1", "Port": it.move_port,
                "UseDicomTls": it.secure, "AllowGet": allow_get,
            },
        },
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    } | more  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([program, "orthanc.json"], cwd=folder, stdout=log, stderr=log)
    try:
        _wait_for(it.http)
        yield replace(it, kill=process.kill)
    finally:
        process.kill()  # its folder is temporary
        process.wait(30)


def _wait_for(port: int) -> None:
    for _ in range(300):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
            return
        time.sleep(0.1)
    pytest.fail("Orthanc did not start")


@pytest.fixture(scope="session")
def orthanc(tmp_path_factory: pytest.TempPathFactory, sent: Path) -> Iterator[Running]:
    """An Orthanc with a password, and the study `sent`."""
    with running(tmp_path_factory.mktemp("orthanc")) as it:
        archive_at(it, "get").send(files_of(sent))
        yield it


@dataclass(frozen=True)
class Certificates:
    """A certificate authority, and certificates with keys of a server and of a client."""

    authority: Path
    server: Path
    client: Path


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates made for this test session."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("certificates")

    def run(*words: str) -> None:
        subprocess.run([program, *words], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    run(
        "req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2",
        "-subj", "/CN=Test authority", "-addext", "keyUsage=critical,keyCertSign",
    )  # fmt: skip
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    for name in ("server", "client"):
        run("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        run(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-CAcreateserial", "-days", "2", "-extfile", "names", "-out", f"{name}.crt",
        )  # fmt: skip
        both = (folder / f"{name}.crt").read_text() + (folder / f"{name}.key").read_text()
        (folder / f"{name}.pem").write_text(both)
    return Certificates(folder / "ca.pem", folder / "server.pem", folder / "client.pem")


@pytest.fixture(scope="session")
def secure_orthanc(
    tmp_path_factory: pytest.TempPathFactory, certificates: Certificates
) -> Iterator[Running]:
    """An Orthanc that requires TLS, for DIMSE with a client certificate."""
    folder = certificates.server.parent
    with (
        running(
            tmp_path_factory.mktemp("secure"),
            DicomTlsEnabled=True,
            DicomTlsCertificate=str(folder / "server.crt"),
            DicomTlsPrivateKey=str(folder / "server.key"),
            DicomTlsTrustedCertificates=str(certificates.authority),
        ) as it,
        wire(it.http, certificate=certificates.server) as port,
    ):
        yield replace(it, http=port)


@pytest.fixture(scope="session")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two sequences and an encapsulated PDF."""
    folder = tmp_path_factory.mktemp("sent")
    write_dicom(make_patient(spacing_mm=12.0), folder, sequences=("t1c", "flair"))
    write_document(folder)
    return folder


def write_document(folder: Path) -> None:
    """Write an encapsulated PDF, as clinical studies often contain."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = EncapsulatedPDFStorage
    meta.MediaStorageSOPInstanceUID = NOBODY.uid("note")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image = pydicom.dcmread(next(iter(files_of(folder))), stop_before_pixels=True)
    note = FileDataset(folder, {}, file_meta=meta, preamble=b"\0" * 128)
    for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "StudyDate"):
        note[keyword] = image[keyword]
    note.SOPClassUID, note.SOPInstanceUID = EncapsulatedPDFStorage, NOBODY.uid("note")
    note.SeriesInstanceUID, note.Modality = NOBODY.uid("notes"), "DOC"
    note.EncapsulatedDocument = b"%PDF-1.4 of nobody"
    note.save_as(folder / "note.dcm", enforce_file_format=True)


def files_of(folder: Path) -> list[Path]:
    """Return all files below a folder, sorted."""
    return sorted(p for p in folder.rglob("*") if p.is_file())


WAYS = ["web", "get", "move"]


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    """Each way to retrieve a study."""
    return str(request.param)


def archive_at(it: Running, way: str, **more: object):
    """Connect to an Orthanc in a given way."""
    if way == "web":
        return connect(Server(it.web, user=USER, **more))
    return connect(Server(it.dimse, by=Retrieval(way), port=it.move_port, **more))


@pytest.fixture
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the password in the environment."""
    monkeypatch.delenv(USER_VARIABLE, raising=False)
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)


@pytest.fixture
def archive(orthanc: Running, way: str, password: None):
    """The connected archive, for each way."""
    return archive_at(orthanc, way)


@contextmanager
def wire(
    port: int,
    *,
    break_after: float = math.inf,
    listen: int = 0,
    certificate: Path | None = None,
    broken: Callable[[], object] = lambda: None,
) -> Iterator[int]:
    """Pass on to a port; cut the first connection that carried so many bytes in one direction.

    `broken` is called before the cut, and may take its time: the line is silent meanwhile.

    With a certificate it is what speaks TLS before a server, as hospitals' proxies do. (Orthanc's
    own HTTPS falls over with Debian 12's OpenSSL.)
    """
    listener = socket.create_server(("127.0.0.1", listen))
    cut = threading.Event()

    def carry(source: socket.socket, sink: socket.socket) -> None:
        passed = 0
        with suppress(OSError):
            while data := source.recv(4096):
                passed += len(data)
                if passed > break_after and not cut.is_set():
                    cut.set()
                    broken()
                    break
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def serve() -> None:
        while (near := _accept(listener, certificate)) is not None:
            far = socket.create_connection(("127.0.0.1", port))
            for ends in ((near, far), (far, near)):
                threading.Thread(target=carry, args=ends, daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)
    assert cut.is_set() or break_after == math.inf, "less came than the wire bears"


def _accept(listener: socket.socket, certificate: Path | None) -> socket.socket | None:
    """Take the next connection that is trusted; None when the listener is closed."""
    while True:
        try:
            near, _ = listener.accept()
        except OSError:
            return None
        if certificate is None:
            return near
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
        try:
            return context.wrap_socket(near, server_side=True)
        except OSError:
            near.close()
