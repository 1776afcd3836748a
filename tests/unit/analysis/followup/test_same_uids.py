"""Objects of two and three examinations name a lesion that was matched by one tracking UID."""

from dataclasses import replace

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid
from tests.phantoms.acquire import Acquisition
from tests.phantoms.analysis import make_analysis, write_study

from lesionlens.analysis.followup import compare as steps
from lesionlens.analysis.followup.compare import compare
from lesionlens.analysis.followup.patient import Examination, Prior
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.patient import Patient
from lesionlens.base.records.study import StudyKind
from lesionlens.imaging.preparation.registration import Registration
from lesionlens.results.export.dicom.exporter import DicomExporter
from lesionlens.testing import Lesion, make_patient

STAYS, GOES, COMES = (-28.0, 8.0, 26.0), (34.0, -40.0, 30.0), (30.0, 20.0, 30.0)
DAYS = ("2026-01-05", "2026-03-05", "2026-05-05")
SEEN = (
    (Lesion(STAYS, 15.0), Lesion(GOES, 9.0)),
    (Lesion(STAYS, 18.0), Lesion(COMES, 9.0)),
    (Lesion(STAYS, 20.0), Lesion(COMES, 12.0)),
)


def examined(folder, lesions):
    """Return an analysis of a DICOM study whose candidates have names of their own."""
    head = make_patient(5, spacing_mm=4.0, lesions=lesions)
    how = Acquisition("LPS", None, 0.0)
    made = make_analysis(head, write_study(head, folder, kind=StudyKind.DICOM, how=how))
    fresh = tuple(replace(c, tracking_uid=generate_uid()) for c in made.findings.candidates)
    return replace(made, findings=replace(made.findings, candidates=fresh))


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    """Return of each examination what its report and its segmentation say: UID by place.

    The head lies alike in all of them, so none is searched for, nor is growth measured.
    """
    folder = tmp_path_factory.mktemp("examinations")
    at_rest = Registration(np.eye(4), 0.0, 0.0, information=1.0, peak_height=1.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "align", lambda *_, **__: (at_rest, MrSequence.T1C))
        return written(folder)


def written(folder):
    before, found = None, []
    for number, (day, lesions) in enumerate(zip(DAYS, SEEN, strict=True)):
        place = folder / str(number)
        now = examined(place / "study", lesions)
        examination = Examination(Patient("x"), day, f"1.2.{number}")
        if before is not None:
            now = compare(now, examination, before)
        DicomExporter().write(now, place)
        before = Prior(examination, now)
        found.append((now, place / "dicom"))
    return found


def groups_of(folder):
    """Return what is measured of each candidate, and where: a segment, so a volume."""
    report = highdicom.sr.srread(folder / "sr.dcm")
    return report.content.get_volumetric_roi_measurement_groups()


def of_report(folder):
    return {str(group.tracking_uid) for group in groups_of(folder)}


def of_segments(folder):
    seg = pydicom.dcmread(folder / "seg.dcm")
    return {str(s.TrackingUID) for s in seg.SegmentSequence}


def near(analysis, place):
    """Return the tracking UID of the candidate that lies nearest a place (RAS, mm)."""
    candidates = analysis.findings.candidates
    apart = [
        sum((a - b) ** 2 for a, b in zip(c.centroid_mm, place, strict=True)) for c in candidates
    ]
    return candidates[apart.index(min(apart))].tracking_uid


def test_a_matched_lesion_has_one_uid_in_every_report_and_segmentation(objects):
    reports = [of_report(folder) for _, folder in objects]
    assert [len(uids) for uids in reports] == [2, 2, 2]
    assert reports == [of_segments(folder) for _, folder in objects]
    (stays,) = reports[0] & reports[1]
    assert {near(analysis, STAYS) for analysis, _ in objects} == {stays}
    comes = near(objects[1][0], COMES)
    assert reports[1] == reports[2] == {stays, comes}
    assert near(objects[0][0], GOES) not in reports[1] | reports[2]
