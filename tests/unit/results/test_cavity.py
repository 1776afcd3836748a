"""A resection cavity is shown, measured, exported and read back, and is no part of the tumour."""

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pydicom
import pytest
from tests.phantoms.analysis import make_analysis, write_study
from tests.phantoms.files import write_nifti

from lesionlens.base import codes
from lesionlens.base.labels import Label, Region
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.followup import Alignment, Comparison, LesionMeasurement, TimePoint
from lesionlens.base.records.prediction import EngineInfo, Prediction
from lesionlens.base.records.study import StudyKind
from lesionlens.imaging.reading.open import open_study
from lesionlens.napari.model.wording.candidates import cavity_text
from lesionlens.results.export.bids import save_bids
from lesionlens.results.export.dicom.exporter import DicomExporter
from lesionlens.results.export.exporter import save
from lesionlens.results.export.followup import followup_json, resection_text
from lesionlens.results.export.report import report_html
from lesionlens.results.export.slicer import SlicerExporter
from lesionlens.results.lens import Lens
from lesionlens.results.review.reopen import read_result, reopen, reopen_folder
from lesionlens.testing import make_patient


class Treated:
    """Calls what is bright on FLAIR a tumour, and a ball of 8 mm within it a cavity."""

    info = EngineInfo("treated", "1", "0" * 64)

    def predict(self, prepared, *, context):
        flair = prepared.channels[3]
        bright = (flair > np.percentile(flair[prepared.brain], 98)) & prepared.brain
        middle = np.rint(np.argwhere(bright).mean(axis=0)).astype(int)
        axes = np.ogrid[tuple(slice(n) for n in bright.shape)]
        cavity = sum((axis - m) ** 2 for axis, m in zip(axes, middle, strict=True)) <= 4
        found = {r: np.where(bright & ~cavity, 0.9, 0.05).astype(np.float32) for r in Region}
        return Prediction(found, self.info, cavity=np.where(cavity, 0.9, 0).astype(np.float32))


@pytest.fixture(scope="module")
def result(tmp_path_factory, patient, coarse):
    folder = tmp_path_factory.mktemp("treated") / "study"
    write_nifti(patient, folder)
    return Lens(engine=Treated())(open_study(folder))


@pytest.fixture(scope="module")
def saved(result, tmp_path_factory):
    place = tmp_path_factory.mktemp("saved") / "out"
    save(result.analysis, place)
    return place


@pytest.fixture
def hollow(tmp_path):
    """A DICOM study's analysis with a cavity beside the lesion."""
    head = make_patient(spacing_mm=4.0)
    plain = make_analysis(head, write_study(head, tmp_path / "study", kind=StudyKind.DICOM))
    inside = np.roll(plain.volumes.labels.data > 0, 12, axis=0) & (plain.volumes.labels.data == 0)
    assert inside.any()
    cavity = Volume(inside, plain.volumes.labels.grid)
    return replace(plain, volumes=replace(plain.volumes, cavity=cavity))


def test_it_belongs_to_no_candidate_although_tumour_surrounds_it(result):
    volumes = result.analysis.volumes
    inside = volumes.cavity.data
    assert inside.any()
    assert result.candidates
    assert not volumes.labels.data[inside].any()
    assert not result.analysis.findings.components[inside].any()
    tumour = np.count_nonzero(volumes.labels.data) * volumes.labels.grid.voxel_ml
    assert sum(c.volume_ml[Region.WT] for c in result.candidates) == pytest.approx(tumour)
    assert volumes.cavity_ml == pytest.approx(inside.sum() * volumes.labels.grid.voxel_ml)
    assert "resection cavity" in cavity_text(result.analysis)


def test_every_file_names_it_as_label_4(result, saved):
    labels = np.asarray(nib.load(saved / "segmentation.nii.gz").dataobj)
    np.testing.assert_array_equal(labels == 4, result.analysis.volumes.cavity.data)
    content = json.loads((saved / "findings.json").read_text())
    assert content["resection_cavity_ml"] == pytest.approx(result.analysis.volumes.cavity_ml, 1e-3)
    assert "not counted as tumour" in (saved / "report.html").read_text()
    assert Label.CAVITY.colour in report_html(result.analysis)


def test_a_saved_result_opens_with_it(result, saved):
    again = reopen(read_result(saved), result.analysis.study, result.analysis.prepared)
    for name in ("cavity", "labels"):
        before, after = (getattr(one.volumes, name) for one in (result.analysis, again))
        np.testing.assert_array_equal(before.data, after.data)


def test_bids_and_slicer_hold_it_apart_from_the_lesion(result, tmp_path):
    SlicerExporter().write(result.analysis, tmp_path)
    header = (tmp_path / "segmentation.seg.nrrd").read_bytes()[:20_000].decode("latin-1")
    assert "^resection-cavity^Resection cavity" in header
    out = tmp_path / "bids"
    save_bids(result.analysis, out)
    (mask,) = out.rglob("*label-L_mask.nii.gz")
    inside = result.analysis.volumes.cavity.data
    assert not np.asarray(nib.load(mask).dataobj)[inside].any()


def test_the_segmentation_object_has_a_segment_of_its_own(hollow, tmp_path):
    staged = tmp_path / "staged"
    staged.mkdir()
    written = DicomExporter().write(hollow, staged)
    assert not written.left_out
    *lesions, cavity = pydicom.dcmread(staged / "dicom" / "seg.dcm").SegmentSequence
    code = cavity.SegmentedPropertyTypeCodeSequence[0]
    assert code.CodeValue == codes.LABEL_TYPES[Label.CAVITY].value
    assert cavity.TrackingUID not in {one.TrackingUID for one in lesions}
    again = reopen_folder(staged / "dicom", hollow.study, hollow.prepared)
    np.testing.assert_array_equal(again.volumes.cavity.data, hollow.volumes.cavity.data)
    np.testing.assert_array_equal(again.volumes.labels.data, hollow.volumes.labels.data)


def point(date, et, cavity, contrast=True):
    volumes = {Region.WT: 30.0, Region.TC: 20.0, Region.ET: et}
    lesion = LesionMeasurement("2.25.1", 1, "left frontal lobe", volumes, 30.0, 20.0, True)
    return TimePoint(date, None, (lesion,), contrast, cavity)


def compared(*points):
    matrix = tuple(map(tuple, np.eye(4).tolist()))
    return Comparison(points, (), Alignment(matrix, 0.0, 0.0, False, "T1c"))


def test_the_extent_of_resection_is_of_the_enhancing_volume_before_surgery():
    after = (point("2026-01-01", 9.0, None), point("2026-02-01", 10.0, 0.0),
             point("2026-03-01", 0.5, 22.0))  # fmt: skip
    found = compared(*after)
    assert (found.resection.before_ml, found.resection.residual_ml) == (10.0, 0.5)
    assert found.resection.percent == pytest.approx(95)
    assert json.loads(followup_json(found))["resection"]["percent"] == 95
    later = compared(*after, point("2026-04-01", 2.0, 20.0))
    assert later.resection is None  # what grew since was not left by the surgeon


@pytest.mark.parametrize(
    ("left", "shown"), [(0.0, "100.0%"), (0.03, "99.9%"), (0.002, "99.99%"), (33.0, "-10.0%")]
)
def test_the_extent_of_resection_reads_100_only_where_nothing_is_left(left, shown):
    """0.03 of 30 ml were left beside an extent of 100%: complete resection."""
    found = compared(point("2026-02-01", 30.0, None), point("2026-03-01", left, 22.0)).resection
    assert resection_text(found).endswith(f"extent of resection {shown}.")


@pytest.mark.parametrize(
    "points",
    [
        (point("2026-01-01", 9.0, None), point("2026-02-01", 2.0, None)),
        (point("2026-01-01", 9.0, 5.0), point("2026-02-01", 2.0, 5.0)),
        (point("2026-01-01", None, None, contrast=False), point("2026-02-01", 2.0, 5.0)),
        (point("2026-01-01", 0.0, None), point("2026-02-01", 0.0, 5.0)),
    ],
    ids=["no cavity", "no examination before surgery", "no contrast", "nothing enhanced"],
)
def test_it_is_unknown_where_it_cannot_be_measured(points):
    assert compared(*points).resection is None
    assert json.loads(followup_json(compared(*points)))["resection"] is None
