"""Intensities that overflowed are reported; bright, cut-off and empty images are not accused."""

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.run_context import RunContext
from lesionlens.engines.testing.simple import make_patient
from lesionlens.imaging.preparation.checks import overflow, quality
from lesionlens.imaging.preparation.intensity_units import standard_units
from lesionlens.imaging.preparation.prepare import PrepareOptions, prepare
from lesionlens.imaging.reading.readers import open_study

pytestmark = pytest.mark.usefixtures("name_unchecked")


@pytest.fixture(scope="module")
def scan():
    """Return a head's T2 of 0 to 1000, without negative noise."""
    values = make_patient(spacing_mm=2.0).sequences[MrSequence.T2].data.clip(0)
    return (values / values.max() * 1000).astype(np.float32)


def check(values):
    found = standard_units(np.asarray(values, np.float32))
    return overflow.check({MrSequence.T2: (found, Grid(found.shape, np.eye(4)))})


def stored(scan, kind, quantile):
    """Return a scan whose values above a quantile of the tissue overflow."""
    limit = np.iinfo(kind).max
    return (scan / np.quantile(scan[scan > 100], quantile) * limit).astype(np.int64).astype(kind)


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.int16])
@pytest.mark.parametrize("quantile", [0.9, 0.97])
def test_an_overflow_is_named(scan, kind, quantile):
    found = check(stored(scan, kind, quantile))
    assert found is not None
    assert not found.passed
    assert "T2" in found.message


@pytest.mark.parametrize("turned", [(0, 1, 2), (2, 0, 1)])
def test_the_storage_order_plays_no_part(scan, turned):
    assert check(stored(scan, np.uint8, 0.9).transpose(turned)) is not None


def test_an_intact_scan_is_not_accused(scan):
    assert check(scan) is None


def test_a_few_voxels_that_jump_did_not_overflow(scan):
    spoilt = scan.copy()
    inside = np.argwhere(ndimage.binary_erosion(scan > 100, iterations=3)) // 2 * 2
    for i, j, k in inside[:: len(inside) // 3]:
        spoilt[i, j, k], spoilt[i + 1, j, k] = 995, 5
    assert check(spoilt) is None


@pytest.mark.parametrize("width", [0, 0.4])
def test_a_scan_that_is_cut_off_did_not_overflow(scan, width):
    cut = np.minimum(scan, np.quantile(scan[scan > 100], 0.95))
    assert check(ndimage.gaussian_filter(cut, width) if width else cut) is None


def test_the_report_of_a_study_says_so(make_study):
    folder = make_study()
    path = folder / "t1c.nii.gz"
    image = nib.load(path)
    values = np.asarray(image.dataobj, np.float32).clip(0)
    wrapped = stored(values / values.max() * 1000, np.int16, 0.9)
    nib.save(nib.Nifti1Image(wrapped, image.affine), path)
    options = PrepareOptions(cache=False, sides=False)
    checks = {c.check: c for c in prepare(open_study(folder), RunContext(), options).quality}
    assert not checks["saturation"].passed
    assert "overflow" in checks["saturation"].message


@pytest.mark.parametrize("noise", [0, 60])
def test_an_even_scalp_is_neither_cut_off_nor_an_overflow(make_study, noise):
    head = make_patient(spacing_mm=2.0, skull=True)
    folder = make_study(patient=head, sequences={"t1"})
    path = folder / "t1.nii.gz"
    image = nib.load(path)
    values = np.asarray(image.dataobj, np.float32)
    scalp = (values > 300) & ~ndimage.binary_dilation(head.brain.data, iterations=4)
    random = np.random.default_rng(0)
    values += np.abs(random.normal(0, 20, values.shape)).astype(np.float32)
    values[scalp] = 3000 - np.abs(random.normal(0, noise, int(scalp.sum())))
    nib.save(nib.Nifti1Image(values, image.affine), path)
    options = PrepareOptions(cache=False)
    found = prepare(open_study(folder), RunContext(), options).quality
    assert next(c for c in found if c.check == "saturation").passed
    raw = {MrSequence.T1: (values, head.brain.grid)}
    assert overflow.check(raw) or not quality.saturation(raw).passed
