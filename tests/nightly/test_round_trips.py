"""Results go to an archive (Orthanc) and come back with their study: nothing differs.

    pytest -m slow tests/nightly/test_round_trips.py

Classic, oblique, 5 mm and multi-frame studies; by DICOMweb, C-GET and C-MOVE. A review goes on
from what the archive gave alone.
"""

import shutil
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from tests.helpers.file_search import files_below
from tests.helpers.ports import free_port
from tests.nightly import ohif
from tests.nightly.frames import in_frames
from tests.phantoms.acquire import Acquisition
from tests.phantoms.analysis import make_analysis
from tests.phantoms.files import write_dicom

from lesionlens.base.labels import MrSequence, ReviewState
from lesionlens.base.records.review import Review, ReviewEvent
from lesionlens.imaging.reading.open import open_study
from lesionlens.results.export.dicom.exporter import DicomExporter
from lesionlens.results.review.reopen import reopen_folder
from lesionlens.site.pacs.connect import connect
from lesionlens.site.pacs.peer import StudyQuery
from lesionlens.site.pacs.server import Retrieval, Server
from lesionlens.testing import Lesion, make_patient

LACKS = "" if shutil.which("Orthanc") and ohif.PLUGIN.exists() else "orthanc, orthanc-dicomweb"
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(LACKS), reason=f"not installed: {LACKS}")]
BOTH = (MrSequence.T1C, MrSequence.FLAIR)
WAYS = ("web", "c-get", "c-move")
KINDS = {
    "classic": Acquisition("LPS"),
    "oblique": Acquisition("PIR", (4.0, 3.0, 5.0), 17.0),
    "5 mm": Acquisition("LPS", (2.0, 2.0, 5.0)),
    "legacy converted": Acquisition("LPS", None, 8.0),
    "enhanced": Acquisition("LPS", None, 8.0),
}


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Addresses of one archive, by the way in which it is asked."""
    folder = tmp_path_factory.mktemp("orthanc")
    dicom, ours = free_port(), free_port()
    more = {
        "DicomServerEnabled": True,
        "DicomAet": "ORTHANC",
        "DicomPort": dicom,
        "DicomModalities": {"us": ["LESIONLENS", "127.0.0.1", ours]},
    }
    peer = f"dicom://ORTHANC@127.0.0.1:{dicom}"
    with ohif.orthanc(folder, **more) as port:
        yield {
            "web": connect(Server(f"http://127.0.0.1:{port}/dicom-web")),
            "c-get": connect(Server(peer, by=Retrieval.GET)),
            "c-move": connect(Server(peer, by=Retrieval.MOVE, port=ours)),
        }


@pytest.fixture(scope="module", params=KINDS)
def sent(request, archive, tmp_path_factory):
    """A study and its reviewed result, both in the archive; by DICOMweb and C-STORE in turns."""
    place = tmp_path_factory.mktemp("sent")
    seed = list(KINDS).index(request.param)
    patient = make_patient(
        seed, spacing_mm=4.0, lesions=(Lesion(), Lesion((30.0, -40.0, 12.0), 12.0))
    )
    write_dicom(patient, place / "study", sequences=BOTH, how=KINDS[request.param])
    for path in files_below(place / "study"):
        dataset = pydicom.dcmread(path)  # a study of its own
        for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            dataset[name].value = f"{dataset[name].value[:58]}.{seed}"
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.save_as(path)
    if seed > 2:
        in_frames(place / "study", enhanced=request.param == "enhanced")
    analysis = make_analysis(patient, open_study(place / "study"))
    events = tuple(
        ReviewEvent(c.tracking_uid, state, "A. Reader", "2026-01-05T10:00:00Z", "as seen")
        for c, state in zip(
            analysis.findings.candidates, (ReviewState.ACCEPTED, ReviewState.EDITED), strict=True
        )
    )
    analysis = replace(analysis, review=Review(events))
    assert DicomExporter().write(analysis, place).left_out == {}
    files = [p for part in ("study", "dicom") for p in (place / part).rglob("*") if p.is_file()]
    way = archive["c-get" if seed % 2 else "web"]
    assert len(way.send(files).stored) == len(files)
    return patient, analysis, files


def _as_read(paths):
    found = [pydicom.dcmread(path) for path in paths]
    return {str(one.SOPInstanceUID): one for one in found}


@pytest.mark.parametrize("way", WAYS)
def test_everything_comes_back_as_it_was_and_the_review_goes_on(sent, archive, tmp_path, way):
    patient, analysis, files = sent
    uid = analysis.study.uid
    studies = archive[way].find(StudyQuery(modality=""))
    assert uid in {study.study_uid for study in studies}
    out = tmp_path / "back"
    assert archive[way].get(uid, out).files == len(files)
    before, after = _as_read(files), _as_read(p for p in out.rglob("*") if p.is_file())
    assert set(before) == set(after)
    for name, one in before.items():
        assert after[name] == one, name  # every attribute, positions and pixels among them
    study = open_study(out)
    for sequence in BOTH:
        was, now = analysis.study.series[sequence], study.series[sequence]
        np.testing.assert_allclose(now.grid.affine, was.grid.affine, atol=1e-9)
        np.testing.assert_array_equal(now.load(), was.load())
    again = reopen_folder(out, study, make_analysis(patient, study).prepared)
    np.testing.assert_array_equal(again.volumes.labels.data, analysis.volumes.labels.data)
    states = {
        c.tracking_uid: again.review.state_of(c.tracking_uid) for c in again.findings.candidates
    }
    assert states == {
        c.tracking_uid: analysis.review.state_of(c.tracking_uid)
        for c in analysis.findings.candidates
    }
