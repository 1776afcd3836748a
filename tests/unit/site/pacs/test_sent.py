"""What was sent is noted in the result's folder, so that the next report can name it."""

import json
import shutil

import pydicom
import pytest
from tests.phantoms.acquire import Acquisition
from tests.phantoms.analysis import make_analysis, write_study

from lesionlens.base.errors import CancelledError
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import StudyKind
from lesionlens.results.documents import SENT, sent_documents
from lesionlens.results.export.exporter import save
from lesionlens.site.pacs.delivery import Delivery
from lesionlens.site.pacs.send_result import send_result
from lesionlens.testing import Lesion, make_patient

ADDRESS = "http://127.0.0.1:8042/dicom-web"


class Shelf:
    """An archive that takes everything, or refuses, perhaps after some files."""

    def __init__(self, error=None, taken=()):
        self.error, self.taken = error, taken

    def send(self, files, *, same_patient, on_partial, context):
        if self.taken:
            on_partial(Delivery(self.taken))
        if self.error:
            raise self.error
        return Delivery(tuple(files))

    def objects_of(self, *_, **__):
        return ()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    place = tmp_path_factory.mktemp("sent")
    patient = make_patient(spacing_mm=6.0, lesions=(Lesion(),))
    study = write_study(
        patient, place / "study", kind=StudyKind.DICOM, sequences=(MrSequence.T1C,),
        how=Acquisition("LPS"),
    )  # fmt: skip
    save(make_analysis(patient, study), place / "out")
    return place / "out"


@pytest.fixture
def result(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "out")


@pytest.mark.parametrize("part", ["", "dicom"])
def test_a_result_that_was_sent_says_so_and_keeps_what_it_said_before(result, part):
    report = pydicom.dcmread(result / "dicom" / "sr.dcm")
    assert sent_documents(result) == ()
    for number in (1, 2):
        done, notices = send_result(Shelf(), result / part, ADDRESS)
        assert (len(done.stored), notices) == (len(list((result / "dicom").iterdir())), ())
        rows = json.loads((result / SENT).read_text())["sent"]
        assert [row["to"] for row in rows] == [ADDRESS] * number
    (found,) = sent_documents(result)
    assert found.sop_instance_uid == report.SOPInstanceUID
    assert found.study_uid == report.StudyInstanceUID


def test_what_the_archive_refused_was_not_sent(result):
    with pytest.raises(ConnectionError):
        send_result(Shelf(ConnectionError()), result, ADDRESS)
    assert not (result / SENT).exists()


@pytest.mark.parametrize("error", [ConnectionError(), CancelledError(), KeyboardInterrupt()])
def test_a_report_that_arrived_before_the_delivery_stopped_was_sent(result, error):
    report = result / "dicom" / "sr.dcm"
    with pytest.raises(type(error)):
        send_result(Shelf(error, (report,)), result, ADDRESS)
    (found,) = sent_documents(result)
    assert found.sop_instance_uid == pydicom.dcmread(report).SOPInstanceUID


def test_a_folder_of_others_gets_no_note(result):
    (result / "run.json").unlink()
    assert send_result(Shelf(), result, ADDRESS)[1] == ()
    assert not (result / SENT).exists()


@pytest.mark.parametrize("content", ["", '{"sent": [{"document": ', '{"sent": 1}', "[]"])
def test_a_damaged_note_is_kept_aside_and_named(result, content):
    for number in (1, 2):
        (result / SENT).write_text(content)
        _, (notice,) = send_result(Shelf(), result, ADDRESS)
        aside = result / f"sent.damaged-{number}.json"
        assert aside.name in notice
        assert aside.read_text() == content
        assert len(sent_documents(result)) == 1
