"""An archive that stops answering does not keep a reader who cancels."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from pynetdicom import AE, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind as FindModel
from tests.unit.site.pacs.conftest import STUDY

from lesionlens.base.errors import CancelledError, ResourceError
from lesionlens.base.run_context import RunContext
from lesionlens.site.pacs import association, web
from lesionlens.site.pacs.connect import connect
from lesionlens.site.pacs.peer import StudyQuery
from lesionlens.site.pacs.server import Server

pytestmark = pytest.mark.filterwarnings("ignore:unclosed.*socket:ResourceWarning")  # pynetdicom's

HEADER = b"HTTP/1.1 200 OK\r\nContent-Type: application/dicom+json\r\n"
UNFINISHED = {
    "before the header": b"",
    "within the header": HEADER,
    "within the body": HEADER + b'Content-Length: 300\r\n\r\n[{"0020000D":',
    "within a body of any length": HEADER + b"Connection: close\r\n\r\n[",
    "between chunks": HEADER + b"Transfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n",
}


@contextmanager
def silent_after(*answers: bytes) -> Iterator[tuple[int, threading.Event]]:
    """A port that answers each request with the next text, the last one without an end.

    The event is set when it has become silent.
    """
    silent, pending, connections = threading.Event(), list(answers), []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection = server.accept()[0]
                    connections.append(connection)
                    while pending and connection.recv(2**16):
                        connection.sendall(pending.pop(0))
                    silent.set()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1], silent
        finally:
            server.shutdown(socket.SHUT_RDWR)
            for connection in connections:
                connection.close()
            thread.join(5)


@contextmanager
def stopped_soon() -> Iterator[None]:
    """The block is cancelled although the archive is silent."""
    with pytest.raises(CancelledError):
        yield


@pytest.mark.parametrize("answer", UNFINISHED.values(), ids=UNFINISHED)
def test_a_search_is_cancelled_wherever_a_web_archive_stops(answer):
    with silent_after(answer) as (port, silent), stopped_soon():
        connect(Server(f"http://127.0.0.1:{port}/d")).find(
            StudyQuery(), context=RunContext(cancel=silent)
        )


BEGUN = (
    *(
        HEADER + b"Content-Length: %d\r\n\r\n" % len(text) + text
        for text in (b'[{"00080018":{"vr":"UI","Value":["1.2.3"]}}]', b"[]", b"[]")
    ),
    b'HTTP/1.1 200 OK\r\nContent-Type: multipart/related; boundary="x"\r\n\r\n--x\r\n\r\n'
    + bytes(128),
)
"""What an archive answers that stops while it sends a study of one object."""


def test_a_study_that_stops_arriving_is_cancelled_and_leaves_nothing(tmp_path):
    with silent_after(*BEGUN) as (port, silent), stopped_soon():
        archive = connect(Server(f"http://127.0.0.1:{port}/d"))
        archive.get(STUDY, tmp_path / "study", context=RunContext(cancel=silent))
    assert not any(tmp_path.iterdir())


def test_a_study_that_stops_arriving_timed_out(monkeypatch, tmp_path):
    monkeypatch.setattr(web, "TIMEOUT_SECONDS", (1, 1))
    with (
        silent_after(*BEGUN) as (port, _),
        pytest.raises(ResourceError, match="timed out"),
    ):
        connect(Server(f"http://127.0.0.1:{port}/d")).get(STUDY, tmp_path / "study")


def test_a_search_is_cancelled_where_a_dimse_archive_stops():
    silent, ended = threading.Event(), threading.Event()

    def answer(_):
        silent.set()
        ended.wait(2 * association.ANSWER_SECONDS)
        yield 0x0000, None

    entity = AE("ARCHIVE")
    entity.add_supported_context(FindModel)
    server = entity.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_FIND, answer)]
    )
    address = f"dicom://ARCHIVE@127.0.0.1:{server.socket.getsockname()[1]}"
    try:
        with stopped_soon():
            connect(Server(address)).find(StudyQuery(), context=RunContext(cancel=silent))
    finally:
        ended.set()
        server.shutdown()
