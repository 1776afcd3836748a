"""A response that is cut, or of another program, is never taken for an archive's."""

from __future__ import annotations

import gzip
import json
import time
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
from lesionlens.site.pacs.peer import LIMIT, StudyQuery
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


def test_a_bad_request_by_http_is_a_wrong_path_or_a_port_of_https():
    """Orthanc answers so without /dicom-web, and nginx to http at its port of https."""
    with (
        archive_answering(PAGE, b"400 Bad Request") as archive,
        pytest.raises(ResourceError, match=r"status 400.*a path such as /dicom-web .* needs https"),
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


def test_a_search_for_an_umlaut_that_is_cut_off_names_no_part_of_the_matches():
    """It returned the one match among the first 500, and hid all others without a word."""
    names = ["Müller^Jörg", *(f"Miller^{n}" for n in range(LIMIT))]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            pattern = parse_qs(urlsplit(self.path).query)["PatientName"][0]
            items = [
                {"0020000D": {"vr": "UI", "Value": [f"1.2.{n}"]},
                 "00100010": {"vr": "PN", "Value": [{"Alphabetic": name}]}}
                for n, name in enumerate(names)
            ]  # fmt: skip
            respond(self, [] if "ü" in pattern else items[:count])

        def log_message(self, *_):
            pass

    query = StudyQuery(patient_name="Müller*")
    with serving_requests(Handler) as port:
        archive = connect(Server(f"http://127.0.0.1:{port}/dicom-web"))
        count = LIMIT - 1
        assert [found.study_uid for found in archive.find(query)] == ["1.2.0"]
        count = LIMIT
        with pytest.raises(UnusableInputError, match="500 or more studies that could match"):
            archive.find(query)


def test_a_redirection_is_not_followed():
    rest = b"Location: https://elsewhere.example/\r\nContent-Length: 0\r\n\r\n"
    with (
        archive_answering(rest, b"307 Temporary Redirect") as archive,
        pytest.raises(UnusableInputError, match=r"redirects to another one \(status 307\)"),
    ):
        archive.find(StudyQuery())


def test_what_an_archive_refuses_in_xml_is_refused(sent):
    files = files_of(sent)[:1]
    from lesionlens.site.pacs.files import read_outgoing

    uid = read_outgoing(files)[0].sop_instance
    body = (
        '<NativeDicomModel><DicomAttribute tag="00081198" vr="SQ" keyword="FailedSOPSequence">'
        '<Item number="1"><DicomAttribute tag="00081155" vr="UI" '
        f'keyword="ReferencedSOPInstanceUID"><Value number="1">{uid}</Value></DicomAttribute>'
        "</Item></DicomAttribute></NativeDicomModel>"
    ).encode()
    kind = b"Content-Type: application/dicom+xml; charset=utf-8\r\nContent-Length: %d\r\n\r\n"
    with archive_answering(kind % len(body) + body) as archive:
        done = archive.send(files)
    assert [refusal.item.sop_instance for refusal in done.refused] == [uid]
    assert not done.stored


def test_a_file_is_not_sent_over_a_connection_that_the_archive_is_closing(sent):
    """It was lost, time after time, where the archive closes silently after each response."""
    n_posts, closing_s = 0, 0.2
    body = b"[]"
    rest = JSON + b"Content-Length: %d\r\n\r\n" % len(body) + body

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.wfile.write(b"HTTP/1.1 200 OK\r\n" + rest)
            self.wfile.flush()
            time.sleep(closing_s)

        def do_POST(self):
            nonlocal n_posts
            n_posts += 1
            self.rfile.read(int(self.headers["Content-Length"]))
            self.wfile.write(b"HTTP/1.1 200 OK\r\n" + rest)

        def log_message(self, *_):
            pass

    with serving_requests(Handler) as port, pytest.raises(LesionLensError, match="0 of 1 files"):
        connect(Server(f"http://127.0.0.1:{port}/dicom-web")).send(files_of(sent)[:1])
    assert n_posts == len(delivery.WAITS_S) + 1


@pytest.mark.parametrize("uid", [None, "../x"])
def test_a_listed_study_without_a_uid_is_malformed(uid):
    """It is fetched into a folder that is named by it."""
    with pytest.raises(ValueError, match="a study without a UID"):
        web._found_study({"0020000D": {"vr": "UI", "Value": [uid]}})
