"""What an archive answers by DIMSE beside success is named, with advice that fits."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import MRImageStorage
from pynetdicom import AE, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind as FindModel
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelGet as GetModel
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelMove as MoveModel
from pynetdicom.sop_class import Verification
from tests.helpers.ports import free_port
from tests.unit.site.pacs.conftest import STUDY, files_of

from lesionlens.base.errors import CancelledError, ResourceError
from lesionlens.base.run_context import RunContext
from lesionlens.site.pacs import association, retrieve
from lesionlens.site.pacs.association import AS_REQUESTOR
from lesionlens.site.pacs.connect import connect
from lesionlens.site.pacs.peer import LIMIT, StudyQuery
from lesionlens.site.pacs.server import Retrieval, Server

pytestmark = pytest.mark.filterwarnings("ignore:unclosed.*socket:ResourceWarning")
SERVICE_REFUSED = 0x0122


@contextmanager
def archive(*services, syntaxes=None, known=(), **answers):
    """An archive with these services; `answers` are generators by the name of their event."""
    entity = AE("ARCHIVE")
    entity.require_calling_aet = list(known)
    for service in (*services, Verification):
        entity.add_supported_context(service, syntaxes)
    entity.add_requested_context(MRImageStorage)
    handlers = [(getattr(evt, f"EVT_C_{name.upper()}"), answer) for name, answer in answers.items()]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        yield f"dicom://ARCHIVE@127.0.0.1:{server.socket.getsockname()[1]}"
    finally:
        server.shutdown()


def match(level="STUDY", **values):
    item = Dataset()
    item.QueryRetrieveLevel, item.StudyInstanceUID = level, STUDY
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


@pytest.mark.parametrize("n_before", [0, 1])
def test_a_query_that_an_archive_cannot_answer_has_advice_about_the_query(n_before):
    """It was about user and password, which DIMSE does not have."""

    def find(_):
        yield from [(0xFF00, match())] * n_before
        yield 0xA700, None

    with archive(FindModel, find=find) as address, pytest.raises(ResourceError) as caught:
        connect(Server(address)).find(StudyQuery())
    assert "status 0xa700 to the query" in caught.value.found
    assert caught.value.next_step.startswith("Narrow the search or try again later")


def test_matches_beyond_the_limit_are_not_awaited():
    def find(_):
        for number in range(LIMIT + 50):
            yield 0xFF00, match(StudyInstanceUID=f"1.2.{number}")
        yield 0x0000, None

    with archive(FindModel, find=find) as address:
        assert len(connect(Server(address)).find(StudyQuery())) == LIMIT


def test_an_archive_that_does_not_know_the_local_title_is_named_with_it():
    with archive(FindModel, known=["OTHER"]) as address, pytest.raises(ResourceError) as caught:
        connect(Server(address)).find(StudyQuery())
    assert "does not know the local AE title LESIONLENS" in caught.value.found


def test_a_cancelled_association_is_not_waited_for():
    """An archive that is connected, but does not answer, took 10 s."""
    cancelled = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        threading.Timer(0.5, cancelled.set).start()
        address = f"dicom://ARCHIVE@127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(CancelledError):
            connect(Server(address)).find(StudyQuery(), context=RunContext(cancel=cancelled))


def test_a_port_of_another_program_is_no_archive(monkeypatch):
    for limit in ("CONNECT_SECONDS", "_PROBE_SECONDS"):
        monkeypatch.setattr(association, limit, 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"dicom://ARCHIVE@127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ResourceError, match="connected, but no association") as caught:
            connect(Server(address)).find(StudyQuery())
    assert "dicoms://" in caught.value.next_step


@pytest.fixture
def images(sent):
    return [pydicom.dcmread(path) for path in files_of(sent) if path.name != "note.dcm"]


def listing(images):
    """Return the handler of queries of an archive that holds the images."""

    def find(event):
        level = event.identifier.QueryRetrieveLevel
        keys = {"STUDY": (), "SERIES": ("SeriesInstanceUID",),
                "IMAGE": ("SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")}[level]  # fmt: skip
        series = event.identifier.get("SeriesInstanceUID")
        found = {tuple(str(image[key].value) for key in keys) for image in images
                 if level != "IMAGE" or image.SeriesInstanceUID == series}  # fmt: skip
        for values in found:
            yield 0xFF00, match(level, **dict(zip(keys, values, strict=True)))
        yield 0x0000, None

    return find


def refused(_):
    """Answer a C-GET."""
    yield 1
    yield SERVICE_REFUSED, None


def fetch(address, by, port, folder):
    return connect(Server(address, by=Retrieval(by), port=port)).get(STUDY, folder)


@pytest.mark.parametrize(
    ("by", "says"),
    [("auto", "neither C-GET nor C-MOVE"), ("move", "neither C-GET nor C-MOVE"),
     ("get", "does not respond to C-GET")],
)  # fmt: skip
def test_an_archive_without_retrieval_is_named(images, by, says, tmp_path):
    with (
        archive(FindModel, find=listing(images)) as address,
        pytest.raises(ResourceError, match=says),
    ):
        fetch(address, by, free_port(), tmp_path / "study")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("late_s", [0.0, 0.5])
def test_c_move_takes_the_place_of_a_c_get_that_is_refused(images, tmp_path, late_s):
    """Some archives report completion before the images have come."""
    port, loses_none = free_port(), {"evt_handlers": AS_REQUESTOR}

    def send_late():
        time.sleep(late_s)
        entity = AE("ARCHIVE")
        entity.add_requested_context(MRImageStorage)
        assoc = entity.associate("127.0.0.1", port, ae_title="LESIONLENS", **loses_none)
        for image in images:
            assoc.send_c_store(image)
        assoc.release()

    def move(_):
        yield "127.0.0.1", port, loses_none
        if late_s:
            threading.Thread(target=send_late).start()
            yield 0
        else:
            yield len(images)
            yield from ((0xFF00, image) for image in images)

    services = FindModel, GetModel, MoveModel
    with archive(*services, find=listing(images), get=refused, move=move) as address:
        got = fetch(address, "auto", port, tmp_path / "study")
        with pytest.raises(ResourceError, match="does not respond to C-GET"):
            fetch(address, "get", port, tmp_path / "other")
    assert got.files == len(images)


def test_images_that_never_come_leave_nothing(images, tmp_path, monkeypatch):
    monkeypatch.setattr(retrieve, "LATE_SECONDS", 0.3)

    def move(_):
        yield "127.0.0.1", port
        yield 0

    port = free_port()
    with (
        archive(FindModel, MoveModel, find=listing(images), move=move) as address,
        pytest.raises(ResourceError, match=f"0 of the study's {len(images)} images"),
    ):
        fetch(address, "move", port, tmp_path / "study")
    assert not any(tmp_path.iterdir())
