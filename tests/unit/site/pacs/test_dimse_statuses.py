"""What an archive answers by DIMSE beside success is named, with advice that fits."""

from __future__ import annotations

import errno
import os
import socket
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import ImplicitVRLittleEndian, MRImageStorage, generate_uid
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.presentation import AllStoragePresentationContexts
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
from lesionlens.site.pacs.dimse import _found_study
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


@pytest.mark.filterwarnings("ignore:.*VR.* IS:UserWarning")
@pytest.mark.parametrize("content", [b"many", b"12.5", b"1\\2 "])
def test_a_number_that_is_none_costs_no_match(content):
    element = b"\x20\x00\x08\x12" + len(content).to_bytes(4, "little") + content  # implicit VR
    item = pydicom.dcmread(BytesIO(element), force=True)
    assert _found_study(item).instances is None


@pytest.mark.filterwarnings("ignore:.*VR.* IS:UserWarning")
def test_a_value_that_cannot_be_read_costs_no_match():
    def find(_):
        item, count = match(PatientID="P1"), Tag("NumberOfStudyRelatedInstances")
        item[count] = RawDataElement(count, "IS", 4, b"12.5", 0, True, True)
        yield 0xFF00, item
        yield 0x0000, None

    with archive(FindModel, find=find) as address:
        (found,) = connect(Server(address)).find(StudyQuery())
    assert (found.patient_id, found.instances) == ("P1", None)


def test_a_match_that_cannot_be_decoded_is_named(monkeypatch):
    """It was a "status 0xff00 to the query"."""

    def undecodable(*_):
        raise ValueError

    def find(_):
        yield 0xFF00, match()
        yield 0x0000, None

    with archive(FindModel, find=find) as address:
        monkeypatch.setattr("pynetdicom.association.decode", undecodable)
        with pytest.raises(ResourceError, match="a match that cannot be decoded"):
            connect(Server(address)).find(StudyQuery())


def test_an_archive_that_does_not_know_the_local_title_is_named_with_it():
    with archive(FindModel, known=["OTHER"]) as address, pytest.raises(ResourceError) as caught:
        connect(Server(address)).find(StudyQuery())
    assert "does not know the local AE title LESIONLENS" in caught.value.found


def test_ctrl_c_while_connecting_leaves_no_association_that_keeps_the_process(monkeypatch):
    """The command ended only when the idle association timed out, after a minute."""
    begun = []

    def interrupted(entity, *args, **kwargs):
        begun.append(associate(entity, *args, **kwargs))
        raise KeyboardInterrupt

    associate = AE.associate
    monkeypatch.setattr(AE, "associate", interrupted)
    with archive(FindModel, find=lambda _: iter(())) as address:
        with pytest.raises(KeyboardInterrupt):
            connect(Server(address)).find(StudyQuery())
        (assoc,) = begun
        assoc.join(5)
        assert not assoc.is_alive()


def test_ctrl_c_while_an_archive_is_slow_to_accept_is_no_failure(monkeypatch):
    """The command ended with "cannot join thread before it is started", and status 1."""
    begun = []

    def interrupted(dul, **_):
        begun.append(dul)
        while dul.state_machine.current_state != "Sta5":  # it awaits the response
            time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr(DULServiceProvider, "receive_pdu", interrupted)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"dicom://ARCHIVE@127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(KeyboardInterrupt):
            connect(Server(address)).find(StudyQuery())
    (dul,) = begun
    dul.join(5)
    assert not dul.is_alive()


@pytest.mark.skipif(sys.platform != "linux", reason="a full queue refuses connections elsewhere")
def test_a_cancelled_connection_is_not_waited_for():
    """It took the 10 s of a connection that is not answered."""
    cancelled = threading.Event()
    with ExitStack() as sockets:
        full = sockets.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):  # more than its queue takes: further ones are not answered
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        threading.Timer(0.5, cancelled.set).start()
        address, start = f"dicom://ARCHIVE@127.0.0.1:{full.getsockname()[1]}", time.monotonic()
        with pytest.raises(CancelledError):
            connect(Server(address)).find(StudyQuery(), context=RunContext(cancel=cancelled))
    assert time.monotonic() - start < 8


def test_a_cancelled_association_is_not_waited_for():
    """An archive that is connected, but does not answer, took 10 s."""
    cancelled = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        threading.Timer(0.5, cancelled.set).start()
        address, start = f"dicom://ARCHIVE@127.0.0.1:{silent.getsockname()[1]}", time.monotonic()
        with pytest.raises(CancelledError):
            connect(Server(address)).find(StudyQuery(), context=RunContext(cancel=cancelled))
    assert time.monotonic() - start < 8


def test_ctrl_c_while_an_association_is_released_leaves_none_of_its_threads(monkeypatch):
    """The one that reads the connection never ended, nor did the command."""
    interrupted = []

    def kill_interrupted_once(assoc):
        if assoc.is_requestor and not interrupted:
            interrupted.append(assoc)
            assoc._kill = True  # as far as it comes before it waits for that thread
            raise KeyboardInterrupt
        kill(assoc)

    kill = Association.kill
    monkeypatch.setattr(Association, "kill", kill_interrupted_once)
    with archive(FindModel, find=lambda _: iter([(0x0000, None)])) as address:
        with pytest.raises(KeyboardInterrupt):
            connect(Server(address)).find(StudyQuery())
        (assoc,) = interrupted
        for _ in range(100):
            if not assoc.is_alive() and not assoc.dul.is_alive():
                return
            time.sleep(0.05)
    pytest.fail("a thread is still alive")


@pytest.fixture
def preempted(monkeypatch):
    """The thread of an association that polls for requests pauses before each poll."""

    class SlowEvent(threading.Event):
        def wait(self, timeout=None):
            done = super().wait(timeout)
            time.sleep(0.2)  # longer than a response takes
            return done

    def init(assoc, *args, **kwargs):
        initialise(assoc, *args, **kwargs)
        if assoc.is_requestor:
            assoc._reactor_checkpoint = SlowEvent()
            assoc._reactor_checkpoint.set()

    initialise = Association.__init__
    monkeypatch.setattr(Association, "__init__", init)


@pytest.mark.usefixtures("preempted")
def test_a_response_is_not_lost_to_the_thread_that_polls_for_requests(images, monkeypatch):
    monkeypatch.setattr(association, "ANSWER_SECONDS", 30)  # a lost response takes that long
    stored = []
    with archive(MRImageStorage, store=lambda event: stored.append(event) or 0x0000) as address:
        done = connect(Server(address)).send([Path(image.filename) for image in images[:3]])
    assert (len(done.stored), len(stored)) == (3, 3)


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


def test_an_archive_that_refuses_c_get_and_c_move_is_asked_to_enter_this_machine(images, tmp_path):
    def move(_):
        yield "127.0.0.1", port
        yield from refused(_)

    port, services = free_port(), (FindModel, GetModel, MoveModel)
    with (
        archive(*services, find=listing(images), get=refused, move=move) as address,
        pytest.raises(ResourceError, match="does not respond to C-MOVE") as caught,
    ):
        fetch(address, "auto", port, tmp_path / "study")
    assert f"AE title LESIONLENS with this machine and port {port}" in caught.value.next_step


def test_why_the_port_for_c_move_cannot_be_opened_is_named(images, tmp_path, monkeypatch):
    """It was "in use", also where the user may not open it."""
    monkeypatch.setattr(retrieve, "own_interface", lambda *_: "203.0.113.1")  # of no machine
    with (
        archive(FindModel, MoveModel, find=listing(images)) as address,
        pytest.raises(ResourceError, match=os.strerror(errno.EADDRNOTAVAIL)),
    ):
        fetch(address, "move", free_port(), tmp_path / "study")


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


def test_a_file_that_cannot_be_sent_as_it_is_costs_no_other(images, tmp_path):
    """Its unknown VR cannot be converted to the only transfer syntax that the archive accepts."""
    for number, image in enumerate(images[:2]):
        image.save_as(tmp_path / f"{number}.dcm")
    content = (tmp_path / "0.dcm").read_bytes()
    assert content.count(b"\x28\x00\x10\x00US") == 1
    (tmp_path / "0.dcm").write_bytes(content.replace(b"\x28\x00\x10\x00US", b"\x28\x00\x10\x00XX"))
    accepts = {"syntaxes": [ImplicitVRLittleEndian], "store": lambda _: 0x0000}
    with archive(MRImageStorage, **accepts) as address:
        done = connect(Server(address)).send(files_of(tmp_path))
    assert [path.name for path in done.stored] == ["1.dcm"]
    assert [refusal.reason for refusal in done.refused] == [
        "it cannot be sent as it is (ValueError)"
    ]


def test_files_of_more_kinds_than_one_association_negotiates_are_all_sent(images, tmp_path):
    kinds = [str(context.abstract_syntax) for context in AllStoragePresentationContexts]
    assert len(kinds) > 64  # each with two transfer syntaxes
    image = images[0]
    del image.PixelData
    for kind in kinds:
        image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = kind
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        image.save_as(tmp_path / f"{kind}.dcm")
    received = []
    with archive(
        *kinds[:100], store=lambda event: received.append(event.request.AffectedSOPClassUID) or 0
    ) as address:
        done = connect(Server(address)).send(files_of(tmp_path))
    assert {path.stem for path in done.stored} == set(received) == set(kinds[:100])
    assert {refusal.item.sop_class for refusal in done.refused} == set(kinds[100:])


def test_a_file_that_is_there_twice_is_sent_once(images, tmp_path):
    """The archive refused the second as a duplicate, and the delivery failed."""
    stored = []

    def store(event):
        uid = event.request.AffectedSOPInstanceUID
        stored.append(uid)
        return 0x0111 if stored.count(uid) > 1 else 0x0000

    for name in ("first.dcm", "copy.dcm"):
        images[0].save_as(tmp_path / name)
    with archive(MRImageStorage, store=store) as address:
        done = connect(Server(address)).send(files_of(tmp_path))
    assert (len(done.stored), done.refused, len(stored)) == (2, (), 1)
