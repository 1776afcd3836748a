"""Addresses, credentials and queries: what is refused before a byte is sent."""

import keyring
import pytest
import tests.unit.site.pacs.conftest  # noqa: F401  skips where the extra is absent
from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked
from requests.utils import select_proxy

from lesionlens.base.errors import UnusableInputError
from lesionlens.site.pacs.connect import connect
from lesionlens.site.pacs.credentials import PASSWORD_VARIABLE, USER_VARIABLE, keep, login
from lesionlens.site.pacs.peer import StudyQuery
from lesionlens.site.pacs.server import Server

SECRET = "hunter2"


class Ring(KeyringBackend):
    """In memory."""

    priority = 1

    def __init__(self, locked=False):
        super().__init__()
        self.kept, self.locked = {}, locked

    def get_password(self, service, username):
        if self.locked:
            raise KeyringLocked("no")
        return self.kept.get((service, username))

    def set_password(self, service, username, password):
        if self.locked:
            raise KeyringLocked("no")
        self.kept[service, username] = password


@pytest.fixture(autouse=True)
def ring(monkeypatch):
    """The system's keyring of this test; nothing in the environment."""
    monkeypatch.delenv(PASSWORD_VARIABLE, raising=False)
    monkeypatch.delenv(USER_VARIABLE, raising=False)
    before, now = keyring.get_keyring(), Ring()
    keyring.set_keyring(now)
    yield now
    keyring.set_keyring(before)


@pytest.mark.parametrize(
    "address",
    [
        f"https://me:{SECRET}@pacs.example/dicom-web",
        f"https://{SECRET}@pacs.example/dicom-web",
        f"https://pacs.example/dicom-web?token={SECRET}",
        f"dicom://AET:{SECRET}@host:104",
        f"//me:{SECRET}@pacs.example",
        f"me:{SECRET}@pacs.example",
        f"https://me:{SECRET}@pacs.example:port/x",
        f"https://me:{SECRET}@[::1/x",
    ],
)
def test_a_secret_in_an_address_is_refused_and_not_repeated(address):
    with pytest.raises(UnusableInputError) as caught:
        connect(Server(address))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("address", ["http://127.0.0.1/dicom-web", "dicom://A@host:104"])
@pytest.mark.parametrize("field", ["ca", "certificate"])
def test_certificates_for_an_address_without_tls_are_refused(address, field, tmp_path):
    """`--ca` with dicom:// instead of dicoms:// sent the images unencrypted, without a word."""
    file = tmp_path / "certificate.pem"
    file.touch()
    with pytest.raises(UnusableInputError, match="certificates for an address without TLS"):
        connect(Server(address, **{field: str(file)}))


@pytest.mark.parametrize(
    "address",
    [
        *("ftp://x", "pacs", "dicom://host:104", "", "dicom://A@", "dicom:// @host:104"),
        *(
            "dicom://R\u00d6NTGEN@host:104",
            f"dicoms://{'A' * 17}@host:104",
            "dicom://A\\B@host:104",
        ),
    ],
)
def test_an_address_of_another_kind_is_refused(address):
    with pytest.raises(UnusableInputError, match="AETITLE"):
        connect(Server(address))


def test_a_user_name_by_dimse_is_not_silently_ignored():
    with pytest.raises(UnusableInputError, match="DICOMweb"):
        connect(Server("dicom://A@host:104", user="me"))


def test_a_password_never_travels_unencrypted(monkeypatch):
    monkeypatch.setenv(PASSWORD_VARIABLE, SECRET)
    with pytest.raises(UnusableInputError, match="https"):
        login("http://pacs.example/dicom-web", "me")
    assert login("https://pacs.example/dicom-web", "me") == ("me", SECRET)
    assert login("http://127.0.0.1:8042/dicom-web", "me") == ("me", SECRET)


def test_the_keyring_keeps_a_password_for_one_user_of_one_host(ring):
    keep("https://pacs.example/dicom-web", "me", SECRET)
    assert login("https://pacs.example/other", "me") == ("me", SECRET)
    for address, user in (("https://pacs.example/", "you"), ("https://other.example/", "me")):
        with pytest.raises(UnusableInputError, match="keyring set"):
            login(address, user)


def test_a_locked_keyring_is_named(ring):
    ring.locked = True
    with pytest.raises(UnusableInputError, match="KeyringLocked"):
        login("https://pacs.example", "me")
    with pytest.raises(UnusableInputError) as caught:
        keep("https://pacs.example", "me", SECRET)
    assert SECRET not in repr(caught.value)


def test_a_connection_does_not_show_its_password(monkeypatch):
    monkeypatch.setenv(PASSWORD_VARIABLE, SECRET)
    archive = connect(Server("https://pacs.example/dicom-web", user="me"))
    assert SECRET not in repr(archive) + repr(vars(archive))


def test_a_netrc_file_is_not_read(monkeypatch, tmp_path):
    (tmp_path / ".netrc").write_text(f"machine 127.0.0.1 login me password {SECRET}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    sent = []

    def send(self, request, **_):
        sent.append(dict(request.headers))
        raise ConnectionError("enough")

    monkeypatch.setattr("requests.adapters.HTTPAdapter.send", send)
    archive = connect(Server("http://127.0.0.1:9/dicom-web"))
    with pytest.raises(ConnectionError):
        archive.find(StudyQuery())
    assert sent
    assert "Authorization" not in sent[0]


@pytest.mark.parametrize(
    "words",
    [
        {"study_date": "2026-01-05"},
        {"study_date": "20260105-20260106-20260107"},
        {"study_date": "-"},
        {"study_date": "20261305"},
        {"study_date": "20260201-20260101"},
        {"patient_id": "a\\b"},
        {"patient_name": "x" * 65},
        {"accession": "a\nb"},
        {"study_uid": "1.2/../3"},
    ],
)
def test_a_query_that_would_mean_something_else_is_refused(words):
    with pytest.raises(UnusableInputError):
        StudyQuery(**words)


@pytest.mark.parametrize(
    "words", [{"title": ""}, {"title": "A" * 17}, {"title": "A\\B"}, {"port": 0}, {"port": 70000}]
)
def test_an_impossible_title_or_port_is_refused(words):
    with pytest.raises(UnusableInputError):
        Server("https://pacs.example", **words).check()


@pytest.mark.parametrize("address", ["https://127.0.0.1:9/x", "dicoms://A@127.0.0.1:9"])
def test_files_that_are_no_certificates_are_named(address, tmp_path):
    with pytest.raises(UnusableInputError, match="PEM"):
        Server(address, ca=str(tmp_path / "absent.pem")).check()
    (tmp_path / "bad.pem").write_text("not a certificate")
    for which in ("ca", "certificate"):
        with pytest.raises(UnusableInputError, match="certificate"):
            connect(Server(address, **{which: str(tmp_path / "bad.pem")}))


@pytest.mark.parametrize(
    ("address", "by_proxy"),
    [
        ("http://127.0.0.1:9/dicom-web", False),
        ("https://localhost:9/dicom-web", False),
        ("http://192.0.2.1:9/dicom-web", False),
        ("https://pacs.example/dicom-web", True),
    ],
)
def test_a_proxy_reads_no_query(monkeypatch, address, by_proxy):
    """What is not encrypted up to the archive goes there directly."""
    for scheme in ("http", "https", "all"):
        monkeypatch.setenv(f"{scheme}_proxy", "http://192.0.2.9:3128")
    monkeypatch.delenv("no_proxy", raising=False)
    used = []

    def send(self, request, **how):
        used.append(select_proxy(request.url, how["proxies"]))
        raise ConnectionError("enough")

    monkeypatch.setattr("requests.adapters.HTTPAdapter.send", send)
    with pytest.raises(ConnectionError):
        connect(Server(address)).find(StudyQuery(patient_name="Doe*"))
    assert used == ["http://192.0.2.9:3128" if by_proxy else None]
