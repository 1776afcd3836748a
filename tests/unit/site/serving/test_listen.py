"""Who can come in, and how: this machine alone unless told, then with a key and encrypted."""

import contextlib
import datetime as dt
import ipaddress
import logging
import socket
import threading
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

import requests
from tests.helpers.local_server import QuickEngine, serving

from lesionlens.base.errors import ResourceError, ServerError, UnusableInputError
from lesionlens.base.run_context import SILENT
from lesionlens.engines.remote.address import ServerAddress, read_keys
from lesionlens.engines.remote.connection import ConnectionLostError
from lesionlens.engines.remote.engine import connect
from lesionlens.site.serving import app as application
from lesionlens.site.serving.admission import Admission
from lesionlens.site.serving.app import make_app
from lesionlens.site.serving.listen import BoundAddress, listen
from lesionlens.site.serving.monailabel import routes
from lesionlens.site.serving.sessions import Limits, Sessions

KEY = "a-key-of-more-than-sixteen-letters"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for this machine that signs itself, and its key."""
    return make_certificate(tmp_path_factory.mktemp("tls"), from_day=-1, to_day=1)


def make_certificate(folder: Path, *, from_day: int, to_day: int) -> tuple[Path, Path]:
    """Write a certificate that is valid between two days, counted from today, and its key."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now + dt.timedelta(days=from_day))
        .not_valid_after(now + dt.timedelta(days=to_day))
        .add_extension(here, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    (folder / "cert.pem").write_bytes(made.public_bytes(pem))
    (folder / "key.pem").write_bytes(key.private_bytes(pem, form, plain))
    return folder / "cert.pem", folder / "key.pem"


def test_over_tls_a_client_trusts_whom_it_is_configured_to_and_nobody_else(certificate):
    file, key = certificate
    where = BoundAddress(port=0, certificate=file, key=key)
    with serving({"quick": QuickEngine()}, where=where, keys=(KEY,)) as server:
        assert server.url.startswith("https://")
        connect(server=ServerAddress(server.url, KEY, ca=file)).close()
        with pytest.raises(ServerError, match=r"certificate .* \(self-signed certificate\)"):
            connect(server=ServerAddress(server.url, KEY))
        other_name = server.url.replace("127.0.0.1", "localhost")
        with pytest.raises(ServerError, match="not valid for 'localhost'"):
            connect(server=ServerAddress(other_name, KEY, ca=file))
        for unusable in (key, file.with_name("missing.pem")):
            with pytest.raises(UnusableInputError, match=f"in '{unusable.name}'"):
                connect(server=ServerAddress(server.url, KEY, ca=unusable))
        with pytest.raises(ServerError, match="a key that"):
            connect(server=ServerAddress(server.url, "wrong-key-of-some-length", ca=file))
        plain = server.url.replace("https", "http")
        with pytest.raises(ServerError):
            connect(server=ServerAddress(plain, KEY))


def test_https_at_a_port_without_tls_is_no_question_of_trust():
    with (
        serving({"quick": QuickEngine()}) as server,
        pytest.raises(ServerError, match="TLS handshake"),
    ):
        connect(server=ServerAddress(server.url.replace("http", "https"), KEY))


def test_a_connection_that_is_cut_in_the_handshake_is_tried_again_not_distrusted():
    attempts = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"

        def hang_up():
            with contextlib.suppress(OSError):  # the listener is closed
                while True:
                    connection, _ = listener.accept()
                    connection.recv(1024)
                    attempts.append(connection.close())

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        with pytest.raises(ConnectionLostError, match="no response"):
            connect(server=ServerAddress(url, KEY, patience_s=1.0))
    assert attempts


def test_a_certificate_that_cannot_be_used_is_explained_and_asks_for_no_pass_phrase(
    certificate, tmp_path
):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    file, key = certificate
    forms = {
        "locked": serialization.BestAvailableEncryption(b"secret"),
        "another": serialization.NoEncryption(),
    }
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    keys = {"locked": private, "another": ec.generate_private_key(ec.SECP256R1())}
    for name, form in forms.items():
        pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, form
        (tmp_path / name).write_bytes(keys[name].private_bytes(*pem))
    for name in ("locked", "another", "missing"):
        with pytest.raises(UnusableInputError, match=f"no usable certificate .*{name}"):
            BoundAddress(certificate=file, key=tmp_path / name).check(())


@pytest.mark.parametrize(
    ("where", "keys", "says"),
    [
        (BoundAddress("0.0.0.0"), (), "without an API key"),
        (BoundAddress("0.0.0.0"), (KEY,), "without a certificate"),
        (BoundAddress("192.0.2.1", plain_http=True), (), "without an API key"),
        (BoundAddress(certificate="cert.pem"), (KEY,), "without its key"),
    ],
)
def test_others_come_in_with_a_key_and_encrypted_alone(where, keys, says):
    with pytest.raises(UnusableInputError, match=says):
        where.check(keys)


def test_this_machine_needs_neither_and_others_come_plain_where_it_is_allowed():
    for where, keys in (
        (BoundAddress(), ()),
        (BoundAddress("::1"), ()),
        (BoundAddress("0.0.0.0", plain_http=True), (KEY,)),
    ):
        where.check(keys)


def test_a_port_that_is_taken_is_explained():
    app = make_app(Sessions({"quick": QuickEngine()}, Limits()), Admission())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = BoundAddress(port=taken.getsockname()[1])
        for impossible in (where, BoundAddress("ä" * 80, 0), BoundAddress("a..b", 0)):
            with pytest.raises(ResourceError, match="cannot be opened"):
                listen(app, impossible, lambda _: None, SILENT)
    app.state.sessions.end()
    app.state.monailabel.uploads.end()


def test_every_route_but_three_needs_a_key(tmp_path):
    """Images and labels of a datastore are as confidential as a session."""
    open_routes = []
    with serving({"quick": QuickEngine()}, keys=(KEY,), datastore=tmp_path) as server:
        for route in (*application.router.routes, *routes.router.routes):
            url = f"{server.url}{route.path.format_map(_AnyName())}"
            for method in route.methods:
                reply = requests.request(method, url, data={"password": KEY}, timeout=10)
                if reply.status_code != 401:
                    open_routes.append(route.path)
    assert sorted(open_routes) == ["/auth/", "/auth/token", "/healthz"]


class _AnyName(dict[str, str]):
    """Names a session, a job, a strategy or a model by "x"."""

    def __missing__(self, _: str) -> str:
        return "x"


def test_no_web_page_reaches_a_server_through_a_browser(caplog):
    caplog.set_level(logging.INFO, "lesionlens.site.serving.requests")
    with serving({"quick": QuickEngine()}) as server:
        about = f"{server.url}/v1/about"
        assert requests.get(about, timeout=10).ok
        page = {"Origin": "https://evil.example"}
        assert requests.get(about, headers=page, timeout=10).status_code == 401
        begun = requests.post(f"{server.url}/v1/sessions", json={}, headers=page, timeout=10)
        assert begun.status_code == 401
        name = {"Host": "evil.example"}
        assert requests.get(about, headers=name, timeout=10).status_code == 400
    refused = caplog.messages[-1]  # as of a proxy that passes its own name on
    assert " 400, " in refused
    assert "evil" not in refused


def test_a_file_of_keys_holds_one_a_line_and_none_that_is_short(tmp_path):
    file = tmp_path / "keys.txt"
    file.write_text(f"# the ward's\n{KEY}\n\nanother-key-of-many-letters\n")
    assert read_keys(file) == (KEY, "another-key-of-many-letters")
    for content in ("", "# none\n", "short\n", "has a space in it and more\n"):
        file.write_text(content)
        with pytest.raises(UnusableInputError, match="no usable key"):
            read_keys(file)
    with pytest.raises(UnusableInputError, match=r"'missing\.txt', a file that does not exist"):
        read_keys(tmp_path / "missing.txt")
