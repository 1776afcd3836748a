"""Find, get and send against a real Orthanc on loopback: by DICOMweb, C-GET and C-MOVE."""

import logging
import socket
import threading
from contextlib import contextmanager
from dataclasses import replace
from itertools import count

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import MRImageStorage
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind as FindModel
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelGet as GetModel
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelMove as MoveModel
from tests.helpers.ports import free_port
from tests.phantoms.headers import NOBODY
from tests.unit.site.pacs.conftest import (
    PASSWORD,
    STUDY,
    USER,
    archive_at,
    files_of,
    running,
    wire,
)

from lesionlens.base.errors import CancelledError, ResourceError, UnusableInputError
from lesionlens.base.labels import MrSequence
from lesionlens.base.run_context import RunContext
from lesionlens.imaging.reading.readers import open_study
from lesionlens.site.pacs import association
from lesionlens.site.pacs.connect import connect
from lesionlens.site.pacs.peer import StudyQuery, name_pattern
from lesionlens.site.pacs.server import Retrieval, Server

# pynetdicom lets go of a refused connection's socket without closing it
pytestmark = pytest.mark.filterwarnings("ignore:unclosed.*socket:ResourceWarning")


def test_what_is_sent_is_found_and_comes_back_the_same(archive, sent, tmp_path):
    files = files_of(sent)
    assert len(archive.send(files).stored) == len(files)
    found = archive.find(StudyQuery(patient_id=NOBODY.patient_id))
    study = next(study for study in found if study.study_uid == STUDY)
    assert study.instances == len(files)
    assert study.patient_name
    assert "MR" in study.modalities
    steps = []
    done = archive.get(
        STUDY, tmp_path / "got", context=RunContext(progress=lambda stage, done: steps.append(done))
    )
    assert done.notices == ()
    assert done.files == len(files) == len(files_of(tmp_path / "got"))
    assert steps == sorted(steps)
    assert steps[-1] == 1.0
    got, was = open_study(tmp_path / "got"), open_study(sent)
    for sequence in (MrSequence.T1C, MrSequence.FLAIR):
        assert got.series[sequence].grid.matches(was.series[sequence].grid)
        assert (got.series[sequence].load() == was.series[sequence].load()).all()


BY = ["web", "get"]
"""A search is the same, whether a study then comes by C-GET or C-MOVE."""


@pytest.mark.parametrize("way", BY)
def test_a_study_is_found_by_a_part_of_the_patients_name(archive, sent):
    name = str(pydicom.dcmread(files_of(sent)[0]).PatientName)
    assert STUDY in [
        s.study_uid for s in archive.find(StudyQuery(patient_name=name_pattern(name[:3])))
    ]
    assert not archive.find(StudyQuery(patient_name=name_pattern("Somebody Else")))


ESCAPED = (
    ({"patient_name": name_pattern("müller jörg")}, True),
    ({"patient_name": name_pattern("Müller^J")}, True),
    ({"patient_name": name_pattern("möller")}, False),
    ({"patient_id": "Ü^1 a"}, True),
    ({"patient_id": "Ö^1 a"}, False),
    ({"accession": "A/1"}, True),
    ({"accession": "A/1", "patient_id": "other"}, False),
)


@pytest.mark.parametrize("way", BY)
def test_signs_that_an_address_escapes_are_found(archive, sent, tmp_path):
    """Orthanc's plug-in takes escapes literally: a name with an umlaut found no study."""
    image = pydicom.dcmread(files_of(sent)[0])
    image.SpecificCharacterSet, image.PatientName = "ISO_IR 100", "Müller^Jörg"
    image.PatientID, image.AccessionNumber = "Ü^1 a", "A/1"
    image.StudyInstanceUID, image.SeriesInstanceUID = NOBODY.uid("umlaut"), NOBODY.uid("series")
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = NOBODY.uid("instance")
    image.save_as(tmp_path / "image.dcm")
    archive.send([tmp_path / "image.dcm"])
    for query, found in ESCAPED:
        studies = [study.study_uid for study in archive.find(StudyQuery(**query))]
        assert studies == [NOBODY.uid("umlaut")] * found, query


def test_a_request_to_stop_leaves_no_half_study(archive, sent, tmp_path):
    stop = threading.Event()

    def first(stage, fraction):
        if fraction > 0:
            stop.set()

    with pytest.raises(CancelledError):
        archive.get(STUDY, tmp_path / "got", context=RunContext(progress=first, cancel=stop))
    assert not list(tmp_path.iterdir())


def test_a_study_that_is_not_there_is_refused(archive, tmp_path):
    with pytest.raises(UnusableInputError, match=r"no study 1\.2\.3\.4"):
        archive.get("1.2.3.4", tmp_path / "got")
    assert not list(tmp_path.iterdir())


def test_what_is_no_uid_is_never_asked_for(archive, tmp_path):
    for uid in ("../../etc", "1.2/../3", "1..2", "1.2\n", "", "1." * 40 + "1"):
        with pytest.raises(UnusableInputError, match="no UID"):
            archive.get(uid, tmp_path / "got")


def test_a_folder_with_content_is_not_mixed(archive, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UnusableInputError, match="new or empty folder"):
        archive.get("1.2.3.4", tmp_path)


@pytest.mark.parametrize("part", [0.3, 0.9])
def test_a_connection_that_breaks_leaves_no_half_study(
    orthanc, way, password, sent, tmp_path, part, monkeypatch
):
    """By C-MOVE it is the archive's connection to us that breaks."""
    monkeypatch.setattr("lesionlens.site.pacs.retrieve.LATE_SECONDS", 0.5)
    after = part * sum(path.stat().st_size for path in files_of(sent))
    if way == "move":
        server, ours = Server(orthanc.dimse, by="move", port=free_port()), orthanc.move_port
        with wire(server.port, break_after=after, listen=ours), pytest.raises(ResourceError):
            connect(server).get(STUDY, tmp_path / "got")
    else:
        port = orthanc.http if way == "web" else orthanc.dicom
        with wire(port, break_after=after) as broken, pytest.raises(ResourceError):
            archive_at(replace(orthanc, http=broken, dicom=broken), way).get(
                STUDY, tmp_path / "got"
            )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("by", ["get", "move"])
def test_an_archive_that_dies_while_sending_leaves_no_half_study(
    by, password, sent, tmp_path, tmp_path_factory
):
    with running(tmp_path_factory.mktemp("dying")) as it:
        archive = archive_at(it, by)
        archive.send(files_of(sent))
        with pytest.raises(ResourceError, match="no usable answer"):
            archive.get(
                STUDY,
                tmp_path / "got",
                context=RunContext(progress=lambda _, done: done and it.kill()),
            )
    assert not list(tmp_path.iterdir())


def test_c_move_is_chosen_where_there_is_no_c_get(password, sent, tmp_path, tmp_path_factory):
    with running(tmp_path_factory.mktemp("noget"), allow_get=False) as it:
        archive_at(it, "move").send(files_of(sent))
        with pytest.raises(ResourceError, match="C-GET"):
            archive_at(it, "get").get(STUDY, tmp_path / "refused")
        assert archive_at(it, "auto").get(STUDY, tmp_path / "got").files == len(files_of(sent))
    assert [p.name for p in tmp_path.iterdir()] == ["got"]


def test_an_archive_that_does_not_know_us_says_what_to_enter(orthanc, sent, tmp_path, password):
    stranger = connect(Server(orthanc.dimse, title="STRANGER", by=Retrieval.MOVE, port=free_port()))
    with pytest.raises(ResourceError, match="STRANGER"):
        stranger.get(STUDY, tmp_path / "got")
    assert not list(tmp_path.iterdir())


def test_a_port_in_use_is_named(orthanc, sent, tmp_path, password):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        archive = connect(Server(orthanc.dimse, by=Retrieval.MOVE, port=port))
        with pytest.raises(ResourceError, match=f"port {port}"):
            archive.get(STUDY, tmp_path / "got")
    assert not list(tmp_path.iterdir())


def test_a_wrong_password_is_reported_without_showing_it(orthanc, monkeypatch):
    monkeypatch.setenv("LESIONLENS_PACS_PASSWORD", "wrong secret")
    with pytest.raises(ResourceError, match="401") as caught:
        connect(Server(orthanc.web, user=USER)).find(StudyQuery())
    assert "secret" not in str(caught.value)


def test_no_secret_and_no_patient_reaches_a_log(archive, sent, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        archive.send(files_of(sent))
        archive.find(StudyQuery(patient_id=NOBODY.patient_id))
        archive.get(STUDY, tmp_path / "got")
    name = str(pydicom.dcmread(files_of(sent)[0]).PatientName)
    for word in (PASSWORD, name, NOBODY.patient_id):
        assert word not in caplog.text


@pytest.mark.parametrize("secret_way", ["web", "get", "move"])
def test_everything_goes_by_tls(secure_orthanc, certificates, secret_way, password, sent, tmp_path):
    trust = {"ca": str(certificates.authority), "certificate": str(certificates.client)}
    archive = archive_at(secure_orthanc, secret_way, **trust)
    archive.send(files_of(sent))
    assert archive.find(StudyQuery(patient_id=NOBODY.patient_id))
    assert archive.get(STUDY, tmp_path / "got").files == len(files_of(sent))


@pytest.mark.parametrize("secret_way", ["web", "get"])
def test_an_archive_without_trust_is_not_spoken_to(secure_orthanc, secret_way, password):
    with pytest.raises(ResourceError, match="--ca") as caught:
        archive_at(secure_orthanc, secret_way).find(StudyQuery())
    assert "certificate" in caught.value.found


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:9/x", "dicom://A@127.0.0.1:9", "dicom://A@pacs..local:104"]
)
def test_an_archive_that_does_not_answer_is_named(address):
    with pytest.raises(ResourceError, match="no usable answer"):
        connect(Server(address)).find(StudyQuery())


@pytest.mark.parametrize("address", ["http://pacs.invalid/x", "dicom://A@pacs.invalid:104"])
def test_an_archive_whose_name_is_unknown_is_no_matter_of_the_disk(address, monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    archive = connect(Server(address))
    for act in (lambda: archive.find(StudyQuery()), lambda: archive.objects_of("1.2", bool)):
        with pytest.raises(ResourceError, match="no usable answer") as error:
            act()
        assert "network" in error.value.next_step


def test_an_answer_waits_for_the_request_that_asked(orthanc):
    """pynetdicom's own thread looks at the queue each millisecond, and must take nothing."""
    peer = association.Peer(Server(orthanc.dimse))
    with peer.associated([]) as link:
        link.dimse_timeout = 1.0  # else a lost answer is waited for a minute
        link.dimse.msg_queue.put((1, "an answer"))
        threading.Event().wait(0.2)
        assert link.dimse.get_msg(block=True) == (1, "an answer")


STRICT = {
    "DicomAlwaysAllowFind": False,
    "DicomAlwaysAllowStore": False,
    "DicomAlwaysAllowGet": False,
}


def test_an_archive_that_ends_the_first_request_is_asked_to_enter_our_title(
    password, sent, tmp_path, tmp_path_factory
):
    with running(tmp_path_factory.mktemp("strict"), **STRICT, DicomModalities={}) as it:
        archive = connect(Server(it.dimse, title="STRANGER", port=free_port()))
        for act in (
            lambda: archive.find(StudyQuery()),
            lambda: archive.send(files_of(sent)),
            lambda: archive.get(STUDY, tmp_path / "got"),
        ):
            with pytest.raises(ResourceError, match="AE title STRANGER") as error:
                act()
            assert "--aet" in error.value.next_step
            assert "Try again" not in str(error.value)


@contextmanager
def archive_that_leaves(last, n_answered, monkeypatch):
    """An archive by DIMSE that ends the association before a request, or after some of them."""

    def match(event):
        level = event.identifier.QueryRetrieveLevel
        found = Dataset()
        found.QueryRetrieveLevel, found.StudyInstanceUID = level, STUDY
        found.SeriesInstanceUID, found.SOPInstanceUID = "1.2.3", "1.2.3.4"
        found.SOPClassUID = MRImageStorage
        yield 0xFF00, found

    entity = AE("ARCHIVE")
    for model in (FindModel, GetModel, MoveModel):
        entity.add_supported_context(model)
    server = entity.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_FIND, match)]
    )

    send, n_calls = getattr(Association, last), count(1)

    def send_or_leave(link, *words):
        if next(n_calls) > n_answered:
            link.abort()
        return send(link, *words)

    monkeypatch.setattr(Association, last, send_or_leave)
    try:
        yield f"dicom://ARCHIVE@127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()


@pytest.mark.parametrize(
    ("last", "n_answered", "by"),
    [("send_c_find", 1, "get"), ("send_c_get", 0, "get"), ("send_c_move", 0, "move")],
)
def test_an_archive_that_leaves_between_two_requests_is_named(
    last, n_answered, by, tmp_path, monkeypatch
):
    with (
        archive_that_leaves(last, n_answered, monkeypatch) as address,
        pytest.raises(ResourceError, match="the connection broke"),
    ):
        connect(Server(address, by=Retrieval(by), port=free_port())).get(STUDY, tmp_path / "got")
    assert not any(tmp_path.iterdir())
