"""Real series of five vendors: voxels and affine equal those of dcm2niix."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lesionlens.base.run_context import SILENT
from lesionlens.imaging.reading.dicom import scan as dicom_scan
from lesionlens.imaging.reading.dicom.pixels import load_stack
from lesionlens.imaging.reading.dicom.series import sort_series
from lesionlens.imaging.reading.readers import open_study

pytestmark = pytest.mark.real
DATA = Path(__file__).resolve().parents[5].parent / "shared/data/dicom"
# dcm2niix scales Philips by its private slope (its documented "precise" values); the others as is
TABLE = {
    "siemens_t1_fl2d_sag": ("siemens_t1_fl2d_sag", False),
    "ge_gre_b0map": ("ge_gre_b0map", False),
    "ge_gre_b0map, field map": ("ge_gre_b0map_fieldmaphz", False),
    "philips_t1_mprage_sag": ("philips_t1_mprage_sag", True),
    "uih_t1_gre_sag": ("uih_t1_gre_sag", False),
    "siemens_xa30_t1_enhanced": ("siemens_xa30_t1_enhanced", False),
    "siemens_xa_phantom_jpeg_lossless": ("siemens_xa_phantom_jpeg_lossless", False),
}


@pytest.fixture
def folder():
    if not DATA.is_dir():
        pytest.skip("the developers' folder of real scans is not here")
    return DATA


def reoriented(values, affine, like):
    """Flip and permute, as dcm2niix documents, to the axes of `like`."""
    image = nib.Nifti1Image(values, affine)
    change = nib.orientations.ornt_transform(
        nib.io_orientation(affine), nib.io_orientation(like.affine)
    )
    turned = image.as_reoriented(change)
    return np.asarray(turned.dataobj, dtype=np.float64), turned.affine


@pytest.mark.parametrize("case", TABLE)
def test_volumes_equal_dcm2niix(folder, case):
    expected_name, rescaled = TABLE[case]
    name = case.split(",")[0]
    expected = nib.load(folder / f"{name}.expected" / f"{expected_name}.nii.gz")
    truth = np.asarray(expected.dataobj, dtype=np.float64)
    files = list(dicom_scan.walk(folder / name))
    found = sort_series(dicom_scan.scan(files, SILENT).slices)
    matches = 0
    for stack in found.stacks:
        values, affine = reoriented(load_stack(stack), stack.grid.affine, expected)
        if rescaled:
            values *= np.median(truth[truth != 0] / values[truth != 0])
        if values.shape == truth.shape and np.allclose(values, truth, rtol=1e-6, atol=1e-3):
            np.testing.assert_allclose(affine, expected.affine, atol=1e-3)
            matches += 1
    assert matches == 1


@pytest.mark.parametrize(
    ("name", "sequence"),
    [
        ("siemens_t1_fl2d_sag", "t1"),
        ("philips_t1_mprage_sag", "t1"),
        ("uih_t1_gre_sag", "t1"),
        ("siemens_xa30_t1_enhanced", "t1"),
    ],
)
def test_the_sequence_of_real_series_is_reported(folder, name, sequence):
    assert [s.value for s in open_study(folder / name).series] == [sequence]
