"""A brain that was cut through obliquely is reported, natural surfaces are not."""

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from lesionlens.base.run_context import SILENT
from lesionlens.imaging import samples
from lesionlens.imaging.preparation.checks import flat_face
from lesionlens.imaging.preparation.prepare import PrepareOptions, prepare
from lesionlens.imaging.preparation.tissue_template import load_template
from lesionlens.imaging.reading.readers import open_study

EDGE_MM = 2.0


@pytest.fixture(scope="module")
def brain():
    template = load_template()
    mask, spacing_mm = template.mask > 0.5, template.grid.spacing_mm
    mask = ndimage.zoom(mask.astype(np.float32), spacing_mm / EDGE_MM, order=1) > 0.5
    return np.pad(ndimage.binary_fill_holes(mask), 6)


def cut(mask, degrees, share, sideways=0.1, forwards=1.0):
    """Return a mask without what lies beyond a plane that faces forwards and down."""
    tilt = np.radians(degrees)
    normal = np.array([sideways, forwards * np.cos(tilt), -np.sin(tilt)])
    voxels = np.argwhere(mask)
    heights = voxels @ normal
    left = np.zeros_like(mask)
    left[tuple(voxels[heights <= np.quantile(heights, 1 - share)].T)] = True
    return left


@pytest.mark.parametrize("degrees", [20, 40, 60])
@pytest.mark.parametrize("share", [0.04, 0.1])
def test_a_cut_below_the_forehead_is_reported(brain, degrees, share):
    found = flat_face.check(cut(brain, degrees, share), EDGE_MM, 1.0)
    assert not found.passed
    assert "(front, lower)" in found.message


def test_the_area_is_that_of_the_face(brain):
    part = cut(brain, 40, 0.08)
    normal = np.array([0.1, np.cos(np.radians(40)), -np.sin(np.radians(40))])
    normal /= np.linalg.norm(normal)
    heights = np.argwhere(part) @ normal
    depth_mm = 6.0
    section = (heights > heights.max() - depth_mm / EDGE_MM).sum() * EDGE_MM**3 / depth_mm
    area_cm2, outward = flat_face.flattest_face(part, EDGE_MM)
    assert area_cm2 == pytest.approx(section / 100, rel=0.15)
    assert outward @ normal > 0.99


def test_a_cut_behind_is_named_so(brain):
    found = flat_face.check(cut(brain, 30, 0.08, forwards=-1.0), EDGE_MM, 1.0)
    assert "(back, lower)" in found.message


@pytest.mark.parametrize("degrees", [0, 12])
def test_a_field_of_view_that_ends_below_the_vertex_is_named_as_a_cause(brain, degrees):
    """The notice named removal of the face alone, and said "back" or "front" at random."""
    found = flat_face.check(cut(brain, degrees - 90, 0.04, sideways=0.0), EDGE_MM, 1.0)
    assert "(upper)" in found.message
    assert "outside the field of view" in found.message


def test_a_brain_as_it_is_has_no_notice_turned_or_not(brain):
    assert flat_face.check(brain, EDGE_MM, 1.0) is None
    for axes in ((0, 1), (0, 2), (1, 2)):
        turned = ndimage.rotate(brain.astype(np.float32), 17.0, axes, order=1) > 0.5
        assert flat_face.check(turned, EDGE_MM, 1.0) is None


def test_the_outermost_of_thick_slices_is_no_cut(brain):
    middle = np.arange(brain.shape[1]) // 5 * 5 + 2
    in_slices = np.roll(brain, 2, 1).take(np.minimum(middle, brain.shape[1] - 1), 1)
    assert flat_face.check(in_slices, EDGE_MM, 1.0) is not None
    assert flat_face.check(in_slices, EDGE_MM, 5 * EDGE_MM) is None


def test_temples_and_the_lower_end_are_not_judged(brain):
    side = cut(np.moveaxis(brain, 1, 0), 0, 0.05)
    assert flat_face.check(np.moveaxis(side, 0, 1), EDGE_MM, 1.0) is None
    assert flat_face.check(cut(brain, 85, 0.05, sideways=0.0), EDGE_MM, 1.0) is None


def test_large_voxels_and_no_brain_are_not_judged(brain):
    part = cut(brain, 40, 0.08)
    assert flat_face.check(part[::2, ::2, ::2], 2 * EDGE_MM, 1.0) is None
    assert flat_face.check(np.zeros((9, 9, 9), bool), EDGE_MM, 1.0) is None


@pytest.mark.parametrize("is_cut", [False, True])
def test_a_cut_through_every_sequence_fails_the_check_of_coverage(tmp_path, is_cut):
    images = {
        name: nib.as_closest_canonical(nib.load(samples.STUDY / f"{name}.nii.gz"))
        for name in ("t1c", "flair")
    }
    values = {name: np.asarray(image.dataobj) for name, image in images.items()}
    rest = outline = np.any([v != 0 for v in values.values()], axis=0)
    if is_cut:
        rest = cut(outline, 40, 0.08)
    for name, image in images.items():
        stripped = nib.Nifti1Image(np.where(rest, values[name], 0), image.affine)
        nib.save(stripped, tmp_path / f"{name}.nii")
    options = PrepareOptions(sides=False, cache=False, edge_mm=2.0)
    checks = prepare(open_study(tmp_path), SILENT, options).quality
    (coverage,) = [check for check in checks if check.check == "coverage"]
    assert coverage.passed is not is_cut, coverage.message
    assert ("flat plane of" in coverage.message) is is_cut


def test_isolated_voxels_have_no_face():
    for voxels in ([(5, 5, 5)], [(5, 5, 5), (20, 20, 20)]):
        mask = np.zeros((24, 24, 24), bool)
        mask[tuple(np.transpose(voxels))] = True
        assert flat_face.flattest_face(mask, EDGE_MM)[0] < 0.1
        assert flat_face.check(mask, EDGE_MM, 1.0) is None
