"""A reviewed result that is sent rejects what was sent unreviewed before; nothing else."""

import json
import shutil
from dataclasses import replace

import pydicom
import pytest
from pydicom.uid import KeyObjectSelectionDocumentStorage
from tests.helpers.json_files import edited_json
from tests.phantoms.acquire import Acquisition
from tests.phantoms.analysis import make_analysis, write_study
from tests.unit.site.pacs.conftest import archive_at, files_of, running

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import MrSequence, ReviewState
from lesionlens.base.records.analysis import Document
from lesionlens.base.records.study import StudyKind
from lesionlens.results.documents import SENT
from lesionlens.results.export.exporter import save
from lesionlens.results.review.log import ReviewLog
from lesionlens.site.pacs.delivery import Delivery, Refusal
from lesionlens.site.pacs.files import ObjectKind, read_outgoing
from lesionlens.site.pacs.send_result import SendOptions, send_result
from lesionlens.testing import Lesion, make_patient

pytestmark = pytest.mark.filterwarnings("ignore:unclosed.*socket:ResourceWarning")
HERE = "http://127.0.0.1:8042/dicom-web"
SUPERSEDE = SendOptions(supersede=True)


class Shelf:
    """An archive that takes everything but what it refuses, or discards without a word.

    What it has is unreviewed.
    """

    def __init__(self, refuses=(), discards=(), has=()):
        self.refuses, self.discards, self.notes, self.has = refuses, discards, [], has

    def objects_of(self, _, matches, **__):
        return self.has if matches("LesionLens measurements, not reviewed (research)") else ()

    def send(self, files, **_):
        items = read_outgoing(files)
        bad = tuple(Refusal(one, "no") for one in items if one.kind in self.refuses)
        if files[0].name == "rejection.dcm":
            self.notes.append(pydicom.dcmread(files[0]))
        taken = tuple(o.path for o in items if o.kind not in self.refuses)
        gone = tuple(one for one in items if one.kind in self.discards)
        return Delivery(taken, refused=bad, unlisted=gone)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A result before and after its review, in folders of their own."""
    place = tmp_path_factory.mktemp("saved")
    patient = make_patient(spacing_mm=6.0, lesions=(Lesion(),))
    study = write_study(
        patient, place / "study", kind=StudyKind.DICOM, sequences=(MrSequence.T1C,),
        how=Acquisition("LPS"),
    )  # fmt: skip
    analysis = make_analysis(patient, study)
    save(analysis, place / "before")
    log = ReviewLog()
    log.decide(analysis.findings.candidates[0].tracking_uid, ReviewState.ACCEPTED)
    reviewed = replace(analysis, review=log.review)
    save(reviewed, place / "after")
    shutil.copytree(place / "before", place / "both")
    send_result(Shelf(), place / "both", HERE)
    save(reviewed, place / "both")
    return place


@pytest.fixture
def results(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "results")


def uids(folder):
    found = [pydicom.dcmread(path, stop_before_pixels=True) for path in folder.glob("dicom/*.dcm")]
    return {str(one.SOPInstanceUID) for one in found}


def named(note):
    return {str(e.value) for e in note.iterall() if e.keyword == "ReferencedSOPInstanceUID"}


def test_what_was_recorded_as_sent_is_rejected_once(results, saved):
    archive = Shelf()
    done, notices = send_result(archive, results / "both", HERE, options=SUPERSEDE)
    (note,) = archive.notes
    assert named(note) == uids(results / "before")
    assert len(done.stored) == len(uids(results / "both")) + 1
    assert "A rejection note names" in notices[-1]
    record = json.loads((results / "both" / SENT).read_text())
    assert set(record["rejected"]) == uids(results / "before")
    recorded = [row["sop_instance_uid"] for row in record["objects"]]
    assert len(recorded) == len(set(recorded)), "the rejection recorded the objects again"
    with pytest.raises(UnusableInputError, match="no earlier unreviewed LesionLens objects"):
        send_result(Shelf(), results / "both", HERE, options=SUPERSEDE)


def listed(folder):
    """Return the objects of a result as an archive lists them."""
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in folder.glob("dicom/*")]
    return tuple(
        Document(h.StudyInstanceUID, h.SeriesInstanceUID, h.SOPClassUID, h.SOPInstanceUID)
        for h in headers
    )


@pytest.mark.parametrize("address", [HERE, f"{HERE}/"])
def test_unreviewed_objects_that_are_not_recorded_are_named_and_not_rejected(results, address):
    """A delivery that was killed has no record; nor has another analysis of the study."""
    recorded = listed(results / "before")
    other = replace(recorded[0], series_uid="1.2.3", sop_instance_uid="1.2.3.1")
    archive = Shelf(has=(*recorded, other))
    _, notices = send_result(archive, results / "both", address, options=SUPERSEDE)
    assert named(archive.notes[0]) == uids(results / "before")
    assert "lists 1 other unreviewed LesionLens object of this study" in notices[-1]
    again = Shelf(has=(*recorded, other))
    _, notices = send_result(again, results / "both", address, options=SUPERSEDE)
    assert named(again.notes[0]) == {"1.2.3.1"}
    assert not any("other unreviewed" in notice for notice in notices)


def test_an_object_of_another_study_is_never_rejected(results):
    """Its record may hold one: the objects of several studies can be sent from one folder."""
    with edited_json(results / "both" / SENT) as record:
        other = next(row for row in record["objects"] if "not reviewed" in row["description"])
        other["study_uid"] = "1.2.3"
    archive = Shelf()
    send_result(archive, results / "both", HERE, options=SUPERSEDE)
    assert named(archive.notes[0]) == uids(results / "before") - {other["sop_instance_uid"]}


@pytest.mark.parametrize(
    ("folder", "address", "says"),
    [
        ("after", HERE, "no earlier unreviewed LesionLens objects"),
        ("both", "http://127.0.0.1:1/other", "no earlier unreviewed LesionLens objects"),
        ("before", HERE, "unreviewed result"),
    ],
)
def test_where_nothing_is_known_to_supersede_nothing_is_sent(results, folder, address, says):
    before = sorted(path.name for path in (results / folder).iterdir())
    with pytest.raises(UnusableInputError, match=says):
        send_result(Shelf(), results / folder, address, options=SUPERSEDE)
    assert sorted(path.name for path in (results / folder).iterdir()) == before


def test_a_note_that_the_archive_refuses_rejects_nothing_and_comes_later(results):
    class Refuses(Shelf):
        def send(self, files, **more):
            self.refuses = (ObjectKind.KO,) if files[0].name == "rejection.dcm" else ()
            return super().send(files, **more)

    done, notices = send_result(Refuses(), results / "both", HERE, options=SUPERSEDE)
    assert [refusal.item.kind for refusal in done.refused] == [ObjectKind.KO]
    assert not any("rejection note" in notice for notice in notices)
    archive = Shelf()
    send_result(archive, results / "both", HERE, options=SUPERSEDE)
    assert named(archive.notes[0]) == uids(results / "before")


@pytest.mark.parametrize("refused", [ObjectKind.SEG, ObjectKind.KO])
def test_nothing_is_rejected_for_a_result_that_did_not_arrive_whole(results, refused):
    archive = Shelf((refused,))
    done, notices = send_result(archive, results / "both", HERE, options=SUPERSEDE)
    assert done.refused
    assert archive.notes == []
    assert "were not rejected" in notices[-1]
    assert json.loads((results / "both" / SENT).read_text())["rejected"] == []


@pytest.mark.parametrize("way", ["web", "get"])
def test_an_archive_is_asked_where_nothing_is_recorded(results, way, password, tmp_path):
    with running(tmp_path) as orthanc:
        archive = archive_at(orthanc, way)
        study = files_of(results / "study")
        archive.send(study[:1])
        send_result(archive, results / "before", HERE)
        done, _ = send_result(archive, results / "after", HERE, options=SUPERSEDE)
        done.check()
        archive.get(pydicom.dcmread(study[0]).StudyInstanceUID, tmp_path / "got")
        got = [pydicom.dcmread(path) for path in (tmp_path / "got").iterdir()]
        notes = [
            one
            for one in got
            if one.SOPClassUID == KeyObjectSelectionDocumentStorage
            and one.ConceptNameCodeSequence[0].CodeValue == "113001"
        ]
        assert [named(one) for one in notes] == [uids(results / "before")]
        assert notes[0].PatientID == got[0].PatientID
