"""Whoever sends a report is told of other readers' reports that it does not replace."""

from dataclasses import replace

import pydicom
import pytest
from tests.phantoms.acquire import Acquisition
from tests.phantoms.analysis import make_analysis, write_study

from lesionlens.base.labels import MrSequence, ReviewState
from lesionlens.base.records.analysis import Document
from lesionlens.base.records.study import StudyKind
from lesionlens.results.documents import newest_document
from lesionlens.results.export.exporter import save
from lesionlens.results.review.log import ReviewLog
from lesionlens.results.review.reopen import reopen_folder
from lesionlens.site.pacs.delivery import Delivery
from lesionlens.site.pacs.send_result import send_result
from lesionlens.testing import Lesion, make_patient

HERE = "http://127.0.0.1:8042/dicom-web"


class Archive:
    """An archive that keeps every object, and lists its series by their description."""

    def __init__(self, error=None):
        self.headers, self.error = [], error

    def send(self, files, **_):
        self.headers += [pydicom.dcmread(path, stop_before_pixels=True) for path in files]
        return Delivery(tuple(files))

    def objects_of(self, study_uid, matches, *, context):
        if self.error is not None:
            raise self.error
        return tuple(
            Document(study_uid, one.SeriesInstanceUID, one.SOPClassUID, one.SOPInstanceUID)
            for one in self.headers
            if one.StudyInstanceUID == study_uid and matches(str(one.SeriesDescription))
        )


@pytest.fixture(scope="module")
def analysis(tmp_path_factory):
    patient = make_patient(spacing_mm=6.0, lesions=(Lesion(),))
    study = write_study(
        patient, tmp_path_factory.mktemp("study"), kind=StudyKind.DICOM,
        sequences=(MrSequence.T1C,), how=Acquisition("LPS"),
    )  # fmt: skip
    return make_analysis(patient, study)


def _reviewed(analysis, *documents):
    log = ReviewLog(analysis.review)
    log.decide(analysis.findings.candidates[0].tracking_uid, ReviewState.ACCEPTED, reader="A")
    return replace(analysis, review=log.review, run=replace(analysis.run, documents=documents))


def _others(archive, analysis, folder):
    save(analysis, folder)
    notices = send_result(archive, folder, HERE)[1]
    return [text[text.index(" (") :][:4] for text in notices if "does not replace" in text]


def test_a_report_of_another_reader_is_named_unless_it_is_replaced(analysis, tmp_path):
    archive = Archive()
    assert _others(archive, analysis, tmp_path / "nobody") == []
    assert _others(archive, _reviewed(analysis), tmp_path / "first") == []
    first = newest_document(tmp_path / "first", analysis.study.uid)
    assert _others(archive, _reviewed(analysis, first), tmp_path / "second") == []
    assert _others(archive, _reviewed(analysis), tmp_path / "alone") == [" (2)"]
    assert _others(archive, analysis, tmp_path / "again") == [" (3)"]


def test_the_reports_before_the_one_that_was_opened_are_replaced_too(analysis, tmp_path):
    archive = Archive()
    _others(archive, _reviewed(analysis), tmp_path / "first")
    for number in range(3):
        opened = tmp_path / ("first" if not number else f"later_{number - 1}")
        again = reopen_folder(opened / "dicom", analysis.study, analysis.prepared)
        assert (
            _others(archive, _reviewed(again, *again.run.documents), tmp_path / f"later_{number}")
            == []
        )
