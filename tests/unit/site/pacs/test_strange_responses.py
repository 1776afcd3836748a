"""A response that is cut, or of another program, is never taken for an archive's."""

from __future__ import annotations

import gzip
import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.helpers.http_server import serving_requests
from tests.unit.site.pacs.conftest import STUDY, files_of

from lesionlens.base.errors import LesionLensError, ResourceError, UnusableInputError
from lesionlens.base.run_context import SILENT
from lesionlens.site.pacs import delivery, web
from lesionlens.site.pacs.connect import connect
from lesionlens.site.pacs.peer import StudyQuery
from lesionlens.site.pacs.server import Server

JSON = b"Content-Type: application/dicom+json\r\n"
LOGIN = b"<html>log in</html>"
PAGE = b"Content-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(LOGIN) + LOGIN
CUT = {
    "within the header": JSON,
    "within a number": JSON + b"Content-Length: ",
    "within the body": JSON + b'Content-Length: 300\r\n\r\n[{"0020000D":',
    "between chunks": JSON + b"Transfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n",
    "no chunk": JSON + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n[]",
    "no gzip": JSON + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n[]",
}
OTHER = {
    "a login page": PAGE,
    "half a gzip": JSON + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"[ ]")[:12],
    "half an XML": b"Content-Type: application/xml;charset=utf-8\r\nContent-Length: 2\r\n\r\n<a",
}
NOTHING = {"empty": JSON + b"Content-Length: 0\r\n\r\n", "no JSON": b"Content-Length: 2\r\n\r\n{}",
           "no file": JSON + b"Content-Length: 2\r\n\r\n{}"}  # fmt: skip


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(delivery, "WAITS_S", (0.0, 0.0))


@contextmanager
def archive_answering(rest: bytes, status: bytes = b"200 OK"):
    """An archive that answers each request with a status and the rest of a response."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.wfile.write(b"HTTP/1.1 " + status + b"\r\n" + rest)

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def log_message(self, *_):
            pass

    with serving_requests(Handler) as port:
        yield connect(Server(f"http://127.0.0.1:{port}/dicom-web"))


def respond(handler, items, headers=()):
    """Answer a search with DICOM JSON."""
    body = json.dumps(items).encode()
    handler.send_response(200)
    for name, value in dict(headers).items():
        handler.send_header(name, value)
    handler.send_header("Content-Type", "application/dicom+json")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@pytest.mark.parametrize("rest", CUT.values(), ids=CUT)
def test_a_list_that_is_cut_is_not_a_shorter_list(rest, tmp_path):
    with archive_answering(rest) as archive:
        with pytest.raises(ResourceError, match="a broken one"):
            archive.find(StudyQuery())
        with pytest.raises(ResourceError, match="a broken one"):
            archive.get(STUDY, tmp_path / "study")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("rest", OTHER.values(), ids=OTHER)
def test_a_page_of_another_program_is_called_so(rest):
    with (
        archive_answering(rest) as archive,
        pytest.raises(ResourceError, match="not a DICOMweb response"),
    ):
        archive.find(StudyQuery())


@pytest.mark.parametrize("rest", (every := CUT | OTHER | NOTHING).values(), ids=every)
def test_a_file_is_stored_only_if_the_archive_says_so(rest, sent):
    files = files_of(sent)
    with (
        archive_answering(rest) as archive,
        pytest.raises(LesionLensError, match=f"0 of {len(files)} files"),
    ):
        archive.send(files)


@pytest.mark.parametrize("follows_offset", [True, False])
def test_studies_beyond_an_archives_own_maximum_are_requested_too(follows_offset):
    """An archive that lists three at a time hid the others, in the window without a word.

    Of series likewise: earlier objects in the others were not superseded.
    """
    items = [
        {tag: {"vr": "UI", "Value": [f"1.2.{n}"]} for tag in ("0020000D", "0020000E")}
        for n in range(7)
    ]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            query = parse_qs(urlsplit(self.path).query)
            start = int(query.get("offset", ["0"])[0]) * follows_offset
            has_more = start + 3 < len(items)
            warning = '299 here: "Additional results can be requested."'
            respond(self, items[start : start + 3], {"Warning": warning} if has_more else {})

        def log_message(self, *_):
            pass

    with serving_requests(Handler) as port:
        archive = connect(Server(f"http://127.0.0.1:{port}/dicom-web"))
        found = archive.find(StudyQuery())
        series = archive._series("1.2", SILENT)
    assert len(found) == len(series) == (7 if follows_offset else 3)


def test_a_redirection_is_not_followed():
    rest = b"Location: https://elsewhere.example/\r\nContent-Length: 0\r\n\r\n"
    with (
        archive_answering(rest, b"307 Temporary Redirect") as archive,
        pytest.raises(UnusableInputError, match=r"redirects to another one \(status 307\)"),
    ):
        archive.find(StudyQuery())


@pytest.mark.parametrize("uid", [None, "../x"])
def test_a_listed_study_without_a_uid_is_malformed(uid):
    """It is fetched into a folder that is named by it."""
    with pytest.raises(ValueError, match="a study without a UID"):
        web._found_study({"0020000D": {"vr": "UI", "Value": [uid]}})
