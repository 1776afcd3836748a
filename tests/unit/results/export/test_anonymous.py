"""A result that is handed on holds no name in any byte, and fits the de-identified study."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from dataclasses import replace
from datetime import date

import pydicom
import pytest
from tests.files_below import files_below
from tests.phantoms.analysis import make_analysis, write_study

from lesionlens.base.labels import MrSequence, ReviewAct, ReviewState
from lesionlens.base.records.followup import (
    Alignment,
    Change,
    Comparison,
    Measured,
    TimePoint,
    measures_of,
)
from lesionlens.base.records.response import (
    Clinical,
    Criterion,
    Disease,
    Response,
    SignedResponse,
    Steroids,
)
from lesionlens.base.records.review import WHOLE_STUDY, Review, ReviewEvent
from lesionlens.base.records.study import StudyKind
from lesionlens.imaging.deidentification.folder import deidentify_folder
from lesionlens.imaging.deidentification.profile import Options
from lesionlens.imaging.deidentification.pseudonyms import Pseudonyms
from lesionlens.results.export.anonymous import anonymous
from lesionlens.results.export.exporter import save
from lesionlens.results.review import store

NAME = "Plantedname"
GONE, OWN, EARLIER_UID = "2.25.4242424242424242", "2.25.5353535353535353", "1.2.840.99.4711471147"
NAMES = Pseudonyms(b"k" * 32)


def inside(path):
    """Every byte of a file, packed ones unpacked."""
    content = path.read_bytes()
    if path.suffix == ".gz":
        content += gzip.decompress(content)
    if path.suffix == ".pdf":
        for packed in re.findall(rb"stream\r?\n(.*?)endstream", content, re.DOTALL):
            try:
                content += zlib.decompress(packed)
            except zlib.error:
                continue
    return content + path.name.encode()


@pytest.fixture(params=[StudyKind.DICOM, StudyKind.NIFTI])
def analysis(request, tmp_path, two_lesions):
    """An analysis with names in headers, file names, warnings and review."""
    folder = tmp_path / f"{NAME} study"
    study = write_study(
        two_lesions, folder, kind=request.param, sequences=(MrSequence.T1C, MrSequence.FLAIR)
    )
    series = {}
    for key, one in study.series.items():
        files = []
        for number, file in enumerate(one.files):
            path = file.path.with_name(f"{NAME}_{number}_{file.path.name}")
            file.path.rename(path)
            if request.param is StudyKind.DICOM:
                dataset = pydicom.dcmread(path)
                dataset.PatientName = dataset.PatientID = f"{NAME}^Person"
                dataset.StudyDescription = f"Brain of {NAME}"
                dataset.StudyDate = "20260105"
                dataset.save_as(path)
            files.append(replace(file, path=path, name=f"{NAME}/{path.name}"))
        series[key] = replace(one, files=tuple(files), description=f"{NAME} {key}",
                              detected_by=f"SeriesDescription '{NAME} T1'")  # fmt: skip
    notice = f"{series[MrSequence.T1C].files[0].name!r}: odd"
    study = replace(study, name=f"{NAME} study", series=series, notices=(notice,))
    made = make_analysis(two_lesions, study)
    uid = made.findings.candidates[0].tracking_uid
    event = ReviewEvent(
        uid, ReviewState.ACCEPTED, f"Dr. {NAME}", "2026-01-05T10:00:00Z", f"{NAME} had surgery"
    )
    followup = earlier(made)
    response = SignedResponse(
        Response.STABLE, None, Criterion.VOLUMETRIC, Disease.ENHANCING, Steroids.SAME,
        Clinical.SAME, "2025-03-04", "2025-03-04", ("nadir 2025-03-04: 3.5 → 3.6 ml",),
        f"Prof. {NAME}", "2026-01-05T11:00:00Z", measures_of(followup.points),
    )  # fmt: skip
    withdrawn = replace(response, time="2026-01-05T10:30:00Z")
    act = ReviewEvent(
        WHOLE_STUDY, ReviewState.UNREVIEWED, f"Prof. {NAME}", "2026-01-05T10:40:00Z", "by mistake",
        ReviewAct.WITHDRAW_RESPONSE, response=withdrawn,
    )  # fmt: skip
    review = Review((event, act), responses=(withdrawn, response))
    return replace(made, review=review, followup=followup)


def earlier(made):
    """An examination of last year, with a lesion that is gone and one that split."""
    now = tuple(Measured.of(c) for c in made.findings.candidates)
    gone = replace(now[0], tracking_uid=GONE)
    points = (
        TimePoint("2025-03-04", EARLIER_UID, (gone, *now), True, tangled=(GONE,)),
        TimePoint("2026-01-05", made.study.uid, now, True),
    )
    changes = (*(Change(one, one) for one in now), Change(gone, None))
    rows = ((1.0, 0, 0, 0), (0, 1.0, 0, 0), (0, 0, 1.0, 0), (0, 0, 0, 1.0))
    alignment = Alignment(rows, 0.0, 0.0, False, "T1c")
    return Comparison(points, changes, alignment, {now[0].tracking_uid: OWN})


def test_no_name_is_in_any_byte(analysis, tmp_path):
    nameless = anonymous(analysis, NAMES, Options())
    save(nameless.analysis, tmp_path / "out", finish=nameless.finish)
    files = files_below(tmp_path / "out")
    assert {"report.html", "run.json", "review.json"} <= {path.name for path in files}
    dicom = analysis.study.kind is StudyKind.DICOM
    assert any(path.suffix == ".dcm" for path in files) is dicom
    for path in files:
        held = inside(path).lower()
        assert NAME.lower().encode() not in held, path.name
        for candidate in analysis.findings.candidates:
            assert candidate.tracking_uid.encode() not in held, path.name
        assert b"2026-01-05" not in held, path.name
        assert b"20260105" not in held, path.name
        for earlier_day in (b"2025-03-04", b"20250304"):
            assert earlier_day not in held, path.name
        for uid in (GONE, EARLIER_UID, OWN):
            assert uid.encode() not in held, path.name
    reported = json.loads((tmp_path / "out" / "findings.json").read_text())
    first = reported["candidates"][0]
    assert first["review"]["state"] == "accepted"
    assert first["review"]["reader"] == "reader 1"
    then, now = json.loads((tmp_path / "out" / "followup.json").read_text())["points"]
    days = date.fromisoformat(now["date"]) - date.fromisoformat(then["date"])
    assert days == date(2026, 1, 5) - date(2025, 3, 4)
    assert then["study_uid"] == NAMES.uid(EARLIER_UID)
    review = store.load(tmp_path / "out")
    assert review.response.reader == "reader 2"
    assert review.response.steps == (f"nadir {then['date']}: 3.5 → 3.6 ml",)
    assert len(review.responses) == 2
    assert any("Faces remain" in warning for warning in reported["warnings"])


def test_without_it_the_names_are_there(analysis, tmp_path):
    save(analysis, tmp_path / "out")
    assert NAME.encode() in (tmp_path / "out" / "report.html").read_bytes()


def test_it_fits_the_deidentified_study(analysis, tmp_path):
    if analysis.study.kind is not StudyKind.DICOM:
        pytest.skip("NIfTI has no UIDs")
    nameless = anonymous(analysis, NAMES, Options())
    save(nameless.analysis, tmp_path / "out", finish=nameless.finish)
    deidentify_folder(analysis.study.root, tmp_path / "study", NAMES, Options())
    there = {
        str(pydicom.dcmread(p).SOPInstanceUID): pydicom.dcmread(p)
        for p in (tmp_path / "study").rglob("*.dcm")
    }
    segmentation = pydicom.dcmread(tmp_path / "out" / "dicom" / "seg.dcm")
    for source in segmentation.ReferencedSeriesSequence[0].ReferencedInstanceSequence:
        one = there[source.ReferencedSOPInstanceUID]
        assert one.StudyInstanceUID == segmentation.StudyInstanceUID
        assert one.PatientID == segmentation.PatientID
        assert one.StudyDate == segmentation.StudyDate
    reported = json.loads((tmp_path / "out" / "findings.json").read_text())
    uids = {c["tracking_uid"] for c in reported["candidates"]}
    assert {s.TrackingUID for s in segmentation.SegmentSequence} <= uids
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["study_uid"] == segmentation.StudyInstanceUID
    assert run["inputs"] == []
