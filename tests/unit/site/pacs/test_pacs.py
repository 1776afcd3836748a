"""Find, get and send against a real Orthanc on loopback: by DICOMweb, C-GET and C-MOVE."""

import logging
import threading
from dataclasses import replace

import pydicom
import pytest
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
from lesionlens.imaging.reading.open import open_study
from lesionlens.site.pacs.connect import connect
from lesionlens.site.pacs.peer import StudyQuery, name_pattern
from lesionlens.site.pacs.server import Server

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
    with pytest.raises(ResourceError, match="--ca"):
        archive_at(secure_orthanc, secret_way).find(StudyQuery())


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:9/x", "dicom://A@127.0.0.1:9", "dicom://A@pacs..local:104"]
)
def test_an_archive_that_does_not_answer_is_named(address):
    with pytest.raises(ResourceError, match="no usable answer"):
        connect(Server(address)).find(StudyQuery())
