"""Certificates: which are used, and what an archive that is not trusted gets."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress

import pytest
from tests.helpers.ports import closed_port

from lesionlens.base.errors import ResourceError, UnusableInputError
from lesionlens.site.pacs.connect import connect
from lesionlens.site.pacs.peer import StudyQuery
from lesionlens.site.pacs.server import Server
from lesionlens.site.pacs.tls import client_context, server_context

pytestmark = pytest.mark.filterwarnings("ignore:unclosed.*socket:ResourceWarning")  # pynetdicom's


def test_a_certificate_and_key_that_do_not_make_a_pair_are_refused_by_name(certificates, tmp_path):
    folder = certificates.client.parent
    both = tmp_path / "both.pem"
    both.write_text((folder / "client.crt").read_text() + (folder / "server.key").read_text())
    locked = tmp_path / "locked.pem"
    head = "-----BEGIN ENCRYPTED PRIVATE KEY-----"
    locked.write_text((folder / "client.crt").read_text() + f"{head}\n")
    for file in (folder / "client.crt", folder / "client.key", both, locked):
        with pytest.raises(UnusableInputError, match=file.name):
            client_context(Server(certificate=str(file)))
    with pytest.raises(UnusableInputError, match="locked"):
        client_context(Server(ca=str(locked.with_name("locked.pem"))))


def test_a_study_that_comes_by_c_move_over_tls_needs_our_certificate(certificates):
    with pytest.raises(UnusableInputError, match="without a certificate"):
        server_context(Server(ca=str(certificates.authority)))


def test_an_archive_that_does_not_listen_is_not_a_matter_of_tls(certificates):
    with closed_port() as port, pytest.raises(ResourceError, match="no connection"):
        address = f"dicoms://ARCHIVE@localhost:{port}"
        connect(Server(address, ca=str(certificates.authority))).find(StudyQuery())


@pytest.mark.parametrize("scheme", ["https://", "dicoms://ARCHIVE@"])
def test_an_archive_that_is_not_trusted_gets_nothing(certificates, scheme):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server)
    received: list[bytes] = []

    def serve(server: socket.socket) -> None:
        with suppress(OSError):
            while True:
                with server.accept()[0] as wire, suppress(OSError):
                    received.append(context.wrap_socket(wire, server_side=True).recv(1))

    with socket.create_server(("localhost", 0)) as server:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        archive = connect(Server(f"{scheme}localhost:{server.getsockname()[1]}"))
        with pytest.raises(ResourceError, match="TLS") as error:
            archive.find(StudyQuery())
        server.shutdown(socket.SHUT_RDWR)
    assert "--ca" in error.value.next_step
    assert not any(received)
