"""Clients that have no key, send too much, stop in the middle, or leave: the server goes on."""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from urllib.parse import urlsplit

import pytest

pytest.importorskip("fastapi")

import requests
from fastapi import Response
from tests.helpers.local_server import QuickEngine, becomes_true, serving

from lesionlens.base.files.scratch import PREFIX
from lesionlens.base.records.prediction import Capability
from lesionlens.site.serving import listen, middleware
from lesionlens.site.serving.error_responses import too_large
from lesionlens.site.serving.sessions import IncomingBytes, Limits

KEY = "a-key-of-more-than-sixteen-letters"
ROUTES = (
    ("PUT", "/session/"),
    ("POST", "/infer/quick"),
    ("PUT", "/datastore/"),
    ("PUT", "/datastore/label?image=one"),
    ("POST", "/v1/sessions"),
    ("PUT", "/v1/sessions/x/parts/y"),
    ("PUT", "/v1/sessions/x/jobs/y"),
)
SMALL = Limits(memory_bytes=8 * 2**20, jobs=4)


def quick(hold=None):
    return QuickEngine(hold, can=frozenset({Capability.SEGMENT}))


@contextmanager
def line(server):
    place = urlsplit(server.url)
    with socket.create_connection((place.hostname, place.port), timeout=30) as opened:
        yield opened


def head(method, target, *lines):
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", *lines, "", ""]).encode()


def status(opened):
    """Return the status of the next answer, 0 for a connection that was closed."""
    try:
        first = opened.recv(4096)
    except ConnectionError:
        first = b""
    return int(first.split()[1]) if first else 0


def is_closed(opened):
    """Read to the end of what comes; one that stays open times out."""
    try:
        while opened.recv(4096):
            pass
    except ConnectionError:
        pass
    return True


def test_the_key_is_looked_at_before_a_body_comes():
    with serving({"quick": quick()}, SMALL, keys=(KEY,)) as server:
        for method, target in ROUTES:
            with line(server) as opened:
                opened.sendall(head(method, target, "Content-Length: 600000000"))
                assert status(opened) == 401, target


def test_a_body_is_bounded_whether_or_not_its_length_is_announced():
    with serving({"quick": quick()}, SMALL) as server:
        for method, target in ROUTES:
            with line(server) as opened:
                opened.sendall(head(method, target, "Content-Length: 600000000"))
                assert status(opened) == 413, target
            with line(server) as opened:
                assert _status_of_64_mb(opened, method, target) in (413, 404, 0), target
            assert becomes_true(lambda: server.sessions.arriving.bytes == 0)
        assert requests.get(f"{server.url}/healthz", timeout=10).ok


def _status_of_64_mb(opened, method, target):
    """Send 64 MB in chunks, as long as the server takes them; return the status of the answer."""
    kind = "Content-Type: multipart/form-data; boundary=b"
    opened.sendall(head(method, target, "Transfer-Encoding: chunked", kind))
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    with suppress(ConnectionError):
        opened.sendall(_chunk(part))
        for _ in range(64):
            opened.sendall(_chunk(bytes(2**20)))
    opened.settimeout(30)
    return status(opened)


def test_what_arrives_at_a_time_is_bounded():
    arriving = IncomingBytes(10)
    assert arriving.add("a", 4)
    assert arriving.add("b", 2)
    assert not arriving.add("b", 5)
    assert not arriving.is_last("a")
    assert arriving.is_last("b")
    arriving.complete("b")
    assert arriving.is_last("a")
    assert not arriving.add("c", 5)
    assert arriving.is_last("c")
    arriving.release("a")
    assert not arriving.add("c", 9)
    arriving.release("b")
    assert arriving.bytes == 0
    assert arriving.add("c", 10)


@pytest.mark.parametrize(
    ("room", "taken", "announced"), [(16, 1, True), (32, 2, True), (32, 2, False), (48, 3, False)]
)
def test_of_uploads_that_arrive_together_the_first_that_fit_are_taken(room, taken, announced):
    """Each had begun before any was complete; each found the memory full, and was refused."""
    begun, whole = min(room // 3, 10), 14
    limits = Limits(memory_bytes=4 * room * 2**17)
    with serving({"quick": quick()}, limits) as server, ExitStack() as stack:
        lines = [stack.enter_context(line(server)) for _ in range(3)]
        first, rest = _upload(begun * 2**17, whole * 2**17 - 2**12, announced=announced)
        for number, opened in enumerate(lines, start=1):
            opened.settimeout(60)
            opened.sendall(first)
            arrived = number * begun * 2**17
            assert becomes_true(lambda arrived=arrived: server.sessions.arriving.bytes >= arrived)
        most = _largest_while(server.sessions.arriving, lines, rest)
        assert [status(opened) for opened in lines] == [200] * taken + [503] * (3 - taken)
        assert most <= limits.memory_bytes // 4
        assert becomes_true(lambda: server.sessions.arriving.bytes == 0)


def _upload(begun, whole, *, announced):
    """Return the beginning of an upload of so many bytes, and the rest."""
    lead = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.nii.gz"\r\n\r\n'
    end = b"\r\n--b--\r\n"
    first = lead + bytes(begun - len(lead))
    rest = bytes(whole - begun - len(end)) + end
    lines = ["Content-Type: multipart/form-data; boundary=b"]
    if announced:
        return head("PUT", "/session/", *lines, f"Content-Length: {whole}") + first, rest
    begins = head("PUT", "/session/", *lines, "Transfer-Encoding: chunked")
    return begins + _chunk(first), _chunk(rest) + _chunk(b"")


def _chunk(content):
    return b"%x\r\n%s\r\n" % (len(content), content)


def _largest_while(arriving, lines, rest):
    """Send the rest on all lines at a time; return the most bytes that were held meanwhile."""

    def send(opened):
        with suppress(ConnectionError):
            opened.sendall(rest)

    senders = [threading.Thread(target=send, args=(opened,)) for opened in lines]
    for sender in senders:
        sender.start()
    most = 0
    while any(sender.is_alive() for sender in senders):
        most = max(most, arriving.bytes)
    return most


def test_connections_that_bring_no_whole_request_are_closed(monkeypatch):
    monkeypatch.setattr(listen, "HEADER_S", 3.0)  # a busy machine sends late
    with serving({"quick": quick()}) as server, ExitStack() as stack:
        lines = [stack.enter_context(line(server)) for _ in range(30)]
        for opened in lines[:10]:
            opened.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127")
        for opened in lines[10:20]:  # a whole one, and the beginning of another
            opened.sendall(head("GET", "/healthz"))
            assert status(opened) == 200
            opened.sendall(b"GET /hea")
        assert all(is_closed(opened) for opened in lines)


def test_a_body_that_stops_coming_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(middleware, "IDLE_S", 0.3)
    with serving({"quick": quick()}, SMALL) as server:
        for method, target in ROUTES[:3]:
            with line(server) as opened:
                kind = "Content-Type: multipart/form-data; boundary=b"
                opened.sendall(head(method, target, "Content-Length: 1000", kind) + b"--b\r\n")
                assert status(opened) == 422


@pytest.mark.parametrize(
    ("target", "pause_s"),
    [("/whole", 0.05), ("/whole", 3.0), ("/datastore/image?image=large", 3.0)],
)
def test_a_client_that_reads_nothing_of_a_response_is_disconnected(
    monkeypatch, tmp_path, target, pause_s, caplog
):
    monkeypatch.setattr(listen, "UNREAD_S", 1.0)
    content = bytes(2**25)  # more than the system buffers
    (tmp_path / "large.nii").write_bytes(content)
    with serving({"quick": quick()}, datastore=tmp_path) as server, line(server) as opened:
        server.app.get("/whole")(lambda: Response(content))
        opened.sendall(head("GET", target, "Connection: close"))
        n_received, pauses = 0, iter([pause_s] * round(3.0 / pause_s))
        while chunk := opened.recv(2**19):
            n_received += len(chunk)
            time.sleep(next(pauses, 0.0))
        assert (n_received > len(content)) is (pause_s < listen.UNREAD_S)
        assert "Exception" not in caplog.text


@pytest.mark.parametrize("size", [0, 1, 2**18, 2**18 + 1, 2**20])
def test_a_response_is_sent_in_pieces_so_that_it_ends_when_it_has_been_read(size):
    """Over TLS a client that needed more than 105 s for a response got a part of it."""
    body, sent = bytes(range(256)) * (size // 256) + bytes(size % 256), []

    async def send(message):
        sent.append(message)

    call = middleware._Call({"path": "/v1/x"}, None, send, None)
    asyncio.run(call.send({"type": "http.response.start", "status": 200, "headers": []}))
    asyncio.run(call.send({"type": "http.response.body", "body": body}))
    start, *pieces = sent
    assert start["status"] == 200
    assert b"".join(piece["body"] for piece in pieces) == body
    assert max(len(piece["body"]) for piece in pieces) <= 2**18
    assert [piece.get("more_body", False) for piece in pieces] == [True] * (len(pieces) - 1) + [
        False
    ]


@pytest.mark.parametrize("requested", ["bytes=a", "bytes=9-"])
def test_a_range_that_an_image_does_not_have_leaves_no_folder(monkeypatch, tmp_path, requested):
    """The image that was made of a study stayed on the disk, and its folder locked."""
    temporary, store = tmp_path / "temporary", tmp_path / "store"
    temporary.mkdir()
    store.mkdir()
    (store / "one.nii").write_bytes(b"an image")
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    with serving({"quick": quick()}, datastore=store) as server, line(server) as opened:
        opened.sendall(head("GET", "/datastore/image?image=one", f"Range: {requested}"))
        assert status(opened) in (400, 416)
        assert becomes_true(lambda: not [*temporary.glob(f"{PREFIX}*")])


@pytest.mark.parametrize("begun", ["head", "body", "next head"])
def test_a_connection_that_drips_bytes_is_closed(monkeypatch, begun):
    """Each byte comes in time; the whole never would."""
    monkeypatch.setattr(listen, "HEADER_S", 2.0)
    monkeypatch.setattr(middleware, "IDLE_S", 2.0)
    with serving({"quick": quick()}, SMALL) as server, line(server) as opened:
        if begun == "next head":
            opened.sendall(head("GET", "/healthz"))
            assert status(opened) == 200
        length = "Content-Length: 1000000"
        opened.sendall(head("POST", "/v1/sessions", length) if begun == "body" else b"GET /")

        def drip():
            try:
                opened.sendall(b"a")
            except OSError:
                return True
            time.sleep(0.05)
            return False

        assert becomes_true(drip, 15.0)


def test_analyses_that_wait_are_bounded_hold_nobody_up_and_end_with_their_client(
    tmp_path, make_study
):
    study, hold = make_study(name="one", sequences={"flair"}), threading.Event()
    shutil.copytree(study, tmp_path / "store" / "one")
    engine = quick(hold)
    with serving({"quick": engine}, SMALL, datastore=tmp_path / "store") as server:

        def waiting():
            return server.sessions.queue.waiting

        with ExitStack() as stack:
            lines = [stack.enter_context(line(server)) for _ in range(60)]
            for number, opened in enumerate(lines):
                opened.sendall(head("POST", "/infer/quick?image=one", "Content-Length: 0"))
                asked = min(number + 1, SMALL.jobs)
                assert becomes_true(lambda asked=asked: len(engine.order) + waiting() == asked)
            refused = [status(opened) for opened in lines[SMALL.jobs :]]
            assert refused == [503] * (60 - SMALL.jobs)
            assert requests.get(f"{server.url}/healthz", timeout=10).ok
            assert waiting() == SMALL.jobs - 1
        assert becomes_true(lambda: waiting() == 0)
        hold.set()
        done = requests.post(f"{server.url}/infer/quick?image=one&output=json", timeout=60)
        assert done.ok
        assert len(engine.order) == 2  # what was left was not analysed


def test_an_analysis_that_runs_when_the_server_stops_is_refused_in_words(tmp_path, make_study):
    study = make_study(name="one", sequences={"flair"})
    shutil.copytree(study, tmp_path / "store" / "one")
    engine, answers = quick(threading.Event()), []
    with serving({"quick": engine}, SMALL, datastore=tmp_path / "store") as server:
        url = f"{server.url}/infer/quick?image=one"
        asking = threading.Thread(target=lambda: answers.append(requests.post(url, timeout=60)))
        asking.start()
        assert becomes_true(lambda: engine.order)
    asking.join(20)
    assert answers[0].status_code == 503
    assert answers[0].json()["found"] == "a server that is being stopped"


def test_the_log_names_routes_and_never_what_was_asked(caplog, tmp_path):
    (tmp_path / "Doe_Jane.nii.gz").write_bytes(b"x")
    caplog.set_level(logging.DEBUG, "lesionlens.site.serving.requests")
    with serving({"quick": quick()}, SMALL, keys=(KEY,), datastore=tmp_path) as server:
        key = {"Authorization": f"Bearer {KEY}"}
        for url in ("/datastore/image?image=Doe_Jane", "/session/Doe_Jane", "/Doe_Jane"):
            requests.get(f"{server.url}{url}", headers=key, timeout=10)
        requests.get(f"{server.url}/info/", timeout=10)
    words = "\n".join(record.getMessage() for record in caplog.records)
    assert "GET /datastore/image 200" in words
    assert "GET /session/{session_id} 404" in words
    assert "401" in words
    assert "Doe" not in words
    assert KEY not in words


def test_the_limit_of_a_body_is_written_out():
    assert too_large(2_000_000_000).found == "more than 1907 MB in one piece"


def test_a_question_is_smaller_than_a_study():
    with serving({"quick": quick()}) as server:
        session = requests.post(f"{server.url}/v1/sessions", timeout=10).json()["session"]
        url = f"{server.url}/v1/sessions/{session}/jobs/x"
        answer = requests.put(url, data=(bytes(2**20) for _ in range(65)), timeout=60)
        assert answer.json()["found"] == "more than 64 MB in one piece"
        assert answer.status_code == 413
        assert becomes_true(lambda: server.sessions.arriving.bytes == 0)


@pytest.mark.parametrize("leaves", [True, False])
def test_a_part_or_a_question_that_breaks_off_is_not_kept(monkeypatch, leaves, caplog):
    """By a client that leaves, or whose line falls silent."""
    monkeypatch.setattr(middleware, "IDLE_S", 30.0 if leaves else 0.3)
    with serving({"quick": quick()}) as server:
        session = requests.post(f"{server.url}/v1/sessions", timeout=10).json()["session"]
        for target in ("parts/y", "jobs/y"):
            with line(server) as opened:
                path = f"/v1/sessions/{session}/{target}"
                opened.sendall(head("PUT", path, "Content-Length: 1000") + b"half")
                if leaves:
                    assert becomes_true(lambda: server.sessions.arriving.bytes == 4)
                else:
                    assert status(opened) == 422
            assert becomes_true(lambda: server.sessions.arriving.bytes == 0)
        (held,) = server.sessions._sessions.values()
        assert (held.parts, held.jobs) == ({}, {})
    assert "Traceback" not in caplog.text
