"""What goes wrong with certificates is reported as exactly as the files and the archive allow."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from tests.helpers.ports import closed_port
from tests.unit.site.pacs.conftest import Certificates, archive_at

from lesionlens.base.errors import ResourceError, UnusableInputError
from lesionlens.site.pacs.connect import connect
from lesionlens.site.pacs.peer import StudyQuery
from lesionlens.site.pacs.server import Server
from lesionlens.site.pacs.tls import client_context, server_context, tls_reason

pytestmark = pytest.mark.filterwarnings("ignore:unclosed.*socket:ResourceWarning")  # pynetdicom's


def test_a_certificate_and_key_that_do_not_make_a_pair_are_refused_by_name(certificates, tmp_path):
    folder = certificates.client.parent
    both = tmp_path / "both.pem"
    both.write_text((folder / "client.crt").read_text() + (folder / "server.key").read_text())
    locked = tmp_path / "locked.pem"
    head = "-----BEGIN ENCRYPTED PRIVATE KEY-----"
    locked.write_text((folder / "client.crt").read_text() + f"{head}\n")
    for file in (folder / "client.crt", folder / "client.key", both, locked):
        with pytest.raises(UnusableInputError, match=f"no usable certificate .*{file.name}"):
            client_context(Server(certificate=str(file)))


def test_a_study_that_comes_by_c_move_over_tls_needs_our_certificate(certificates):
    with pytest.raises(UnusableInputError, match="without a certificate") as error:
        server_context(Server(ca=str(certificates.authority)))
    assert "--cert" in error.value.next_step


def test_an_archive_that_asks_for_our_certificate_says_so(secure_orthanc, certificates, password):
    archive = archive_at(secure_orthanc, "get", ca=str(certificates.authority))
    with pytest.raises(ResourceError, match="client certificate") as error:
        archive.find(StudyQuery())
    assert "--cert" in error.value.next_step


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("abrupt", [False, True])
def test_the_reason_does_not_depend_on_how_far_a_connection_came(certificates, version, abrupt):
    with _requiring_our_certificate(certificates, version, abrupt=abrupt) as port:
        with pytest.raises(ResourceError, match="require") as error:
            _find(f"dicoms://ARCHIVE@localhost:{port}", ca=certificates.authority)
        assert "--cert" in error.value.next_step


def test_an_archive_that_we_do_not_trust_says_so(certificates):
    with (
        _requiring_our_certificate(certificates, ssl.TLSVersion.TLSv1_3, abrupt=False) as port,
        pytest.raises(ResourceError, match="not accepted") as error,
    ):
        _find(f"dicoms://ARCHIVE@localhost:{port}")
    assert "--ca" in error.value.next_step


def test_an_archive_that_hears_nobody_is_not_a_matter_of_tls(certificates):
    with closed_port() as port, pytest.raises(ResourceError, match="no connection") as error:
        _find(f"dicoms://ARCHIVE@localhost:{port}", ca=certificates.authority)
    assert "port" in error.value.next_step
    assert "--c" not in error.value.next_step


def _find(address: str, **files: Path | None) -> None:
    named = {name: str(file) for name, file in files.items() if file is not None}
    connect(Server(address, **named)).find(StudyQuery())


@contextmanager
def _requiring_our_certificate(
    certificates: Certificates, version: ssl.TLSVersion, *, abrupt: bool
) -> Iterator[int]:
    """A server that wants a certificate; an abrupt one resets the connection without a word."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server)
    context.load_verify_locations(certificates.authority)
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = context.maximum_version = version

    def answer(wire: socket.socket) -> None:
        if abrupt:
            wire.recv(1)
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            with suppress(OSError), context.wrap_socket(wire, server_side=True) as secure:
                secure.recv(1)

    with _answering(answer) as port:
        yield port


@contextmanager
def _answering(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that answers each connection and closes it."""
    with socket.create_server(("localhost", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    wire = server.accept()[0]
                except OSError:
                    return
                with wire:
                    answer(wire)

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("abrupt", [False, True])
def test_a_port_without_tls_is_no_matter_of_certificates_alone(certificates, abrupt):
    with _hanging_up(abrupt=abrupt) as port:
        with pytest.raises(ResourceError, match="ports without TLS") as error:
            _find(f"dicoms://ARCHIVE@localhost:{port}", ca=certificates.authority)
        assert "use dicom://" in error.value.next_step
        assert "--cert" in error.value.next_step


@pytest.mark.parametrize(("named", "required"), [(True, True), (True, False), (False, False)])
def test_an_archive_that_hangs_up_after_the_handshake_did_not_refuse_it(
    certificates, named, required
):
    """Without a certificate it was said to have closed the connection during the handshake."""
    certificate = certificates.client if named else None
    with _hanging_up_after_the_handshake(certificates, required=required) as port:
        with pytest.raises(ResourceError, match="connected by TLS, but it closed") as error:
            _find(
                f"dicoms://ARCHIVE@localhost:{port}",
                ca=certificates.authority,
                certificate=certificate,
            )
        assert "requires a client certificate (--cert)" in error.value.next_step


@contextmanager
def _hanging_up_after_the_handshake(certificates: Certificates, *, required: bool) -> Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server)
    context.load_verify_locations(certificates.authority)
    context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_NONE

    def answer(wire: socket.socket) -> None:
        with suppress(OSError), context.wrap_socket(wire, server_side=True) as secure:
            secure.unwrap()

    with _answering(answer) as port:
        yield port


@contextmanager
def _hanging_up(*, abrupt: bool) -> Iterator[int]:
    """A plain port, as DCMTK's: it reads what is no association and closes the connection."""

    def answer(wire: socket.socket) -> None:
        with suppress(OSError):
            wire.recv(1 if abrupt else 2**16)  # what is not read resets it

    with _answering(answer) as port:
        yield port


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        ("[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required", "--cert"),
        ("[SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred in violation of protocol", "--cert"),
        ("TLS/SSL connection has been closed (EOF) (_ssl.c:992)", "--cert"),  # Python 3.11.2
        ("[SSL: CERTIFICATE_VERIFY_FAILED] unable to get local issuer certificate", "--ca"),
        ("certificate verify failed: Hostname mismatch, not valid for 'x'", "name"),
        ("certificate verify failed: certificate has expired", "clock"),
        ("[SSL: WRONG_VERSION_NUMBER] wrong version number", "port"),
        ("[SSL: TLSV1_ALERT_PROTOCOL_VERSION] tlsv1 alert protocol version", "TLS 1.2"),
        ("[SSL: UNSUPPORTED_PROTOCOL] unsupported protocol", "TLS 1.2"),
    ],
)
def test_each_failure_of_tls_has_its_own_advice(words, advice):
    found = tls_reason(ssl.SSLError(words))
    assert found is not None
    assert advice in found[1]


def test_the_reason_of_tls_stands_in_the_message_as_part_of_a_sentence():
    """It read "(None)", or ended within the brackets by a full stop."""
    named = ssl.SSLCertVerificationError(1, "certificate verify failed")
    named.verify_message = "Hostname mismatch, certificate is not valid for 'x'."
    for error, reason in (
        (named, "(Hostname mismatch, certificate is not valid for 'x')"),
        (ssl.SSLError("no cipher match"), "(no cipher match)"),
    ):
        found = tls_reason(error)
        assert found is not None
        assert found[0].endswith(reason)


def test_what_is_no_matter_of_tls_is_left_alone():
    assert tls_reason(ConnectionResetError("Connection reset by peer")) is None


def test_an_address_with_tls_in_it_is_no_matter_of_tls():
    with closed_port() as port, pytest.raises(ResourceError, match="no connection"):
        _find(f"http://127.0.0.1:{port}/tls-archive")
