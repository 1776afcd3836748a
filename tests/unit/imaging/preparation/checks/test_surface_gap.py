"""A gap in one side of a stripped brain is reported, what both hemispheres share is not."""

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from lesionlens.base.run_context import SILENT
from lesionlens.imaging import samples
from lesionlens.imaging.preparation.checks import surface_gap
from lesionlens.imaging.preparation.prepare import PrepareOptions, prepare
from lesionlens.imaging.preparation.tissue_template import load_template
from lesionlens.imaging.reading.readers import open_study

EDGE_MM = 2.0


@pytest.fixture(scope="module")
def brain():
    """Return the outline of a brain, without its own asymmetry."""
    mask = load_template().mask > 0.5
    shape = np.round(np.array(mask.shape) * load_template().grid.spacing_mm / EDGE_MM)
    mask = ndimage.zoom(mask.astype(np.float32), shape / mask.shape, order=1) > 0.5
    mask = np.pad(ndimage.binary_fill_holes(mask), 6)
    return mask | mask[::-1]


def bitten(mask, side="left", along=0.7, height=0.65, radius_mm=17.0):
    """Return a mask without a ball about a point of its surface, and the ball's volume in ml."""
    voxels = np.argwhere(mask)
    low, high = voxels.min(axis=0), voxels.max(axis=0)
    j, k = (round(low[a] + share * (high[a] - low[a])) for a, share in ((1, along), (2, height)))
    inside = np.flatnonzero(mask[:, j, k])
    i = inside[0] if side == "left" else inside[-1]
    distance = np.linalg.norm(np.indices(mask.shape).T - (i, j, k), axis=-1).T * EDGE_MM
    cut = mask & (distance <= radius_mm)
    return mask & ~cut, int(cut.sum()) * EDGE_MM**3 / 1000


def turned(mask, degrees, axes):
    return ndimage.rotate(mask.astype(np.float32), degrees, axes=axes, order=1) > 0.5


def test_a_brain_as_it_is_has_no_notice(brain):
    assert surface_gap.check(brain, EDGE_MM) is None
    assert surface_gap.check(np.zeros((5, 5, 5), bool), EDGE_MM) is None


@pytest.mark.parametrize(
    ("side", "along", "height", "place"),
    [
        ("left", 0.75, 0.7, "left, front, upper"),
        ("right", 0.75, 0.7, "right, front, upper"),
        ("right", 0.25, 0.65, "right, back, upper"),
        ("left", 0.6, 0.35, "left, front, lower"),
    ],
)
def test_a_gap_is_reported_with_its_side_and_place(brain, side, along, height, place):
    rest, removed_ml = bitten(brain, side, along, height)
    found = surface_gap.check(rest, EDGE_MM)
    assert found is not None
    assert (found.check, found.passed) == ("coverage", False)
    assert f"brain's surface ({place})" in found.message
    reported_ml = float(found.message.split(" ml")[0].removeprefix("About "))
    assert 0.3 * removed_ml < reported_ml < 1.2 * removed_ml


def test_what_both_hemispheres_lack_is_not_reported(brain):
    both = bitten(bitten(brain, "left")[0], "right")[0]
    assert surface_gap.check(both, EDGE_MM) is None


def test_a_small_gap_is_not_reported(brain):
    rest, removed_ml = bitten(brain, radius_mm=6.0)
    assert removed_ml > 0
    assert surface_gap.check(rest, EDGE_MM) is None


@pytest.mark.parametrize("degrees", [-20, 20])
@pytest.mark.parametrize("axes", [(1, 2), (0, 1), (0, 2)])
def test_a_rotated_head_changes_neither(brain, axes, degrees):
    assert surface_gap.check(turned(brain, degrees, axes), EDGE_MM) is None
    found = surface_gap.check(turned(bitten(brain, "right")[0], degrees, axes), EDGE_MM)
    assert found is not None
    assert "(right, " in found.message


@pytest.mark.parametrize("stored", ["RAS", "LPS", "PIR"])
def test_a_gap_in_every_sequence_fails_the_check_of_coverage(tmp_path, stored):
    """The stored order of the voxels does not matter, and neither side is taken for the other."""
    images = {
        name: nib.as_closest_canonical(nib.load(samples.STUDY / f"{name}.nii.gz"))
        for name in ("t1c", "flair")
    }
    values = {name: np.asarray(image.dataobj) for name, image in images.items()}
    outline = ndimage.binary_fill_holes(np.any([v != 0 for v in values.values()], axis=0))
    voxel_mm = float(images["t1c"].header.get_zooms()[0])
    for cut in (False, True):
        rest = bitten(outline, "right", radius_mm=25.0 * EDGE_MM / voxel_mm)[0] if cut else outline
        folder = tmp_path / f"{stored}{cut}"
        folder.mkdir()
        for name, image in images.items():
            stripped = nib.Nifti1Image(np.where(rest, values[name], 0), image.affine)
            order = nib.orientations.ornt_transform(
                nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(stored)
            )
            nib.save(stripped.as_reoriented(order), folder / f"{name}.nii")
        options = PrepareOptions(sides=False, cache=False, edge_mm=2.0)
        checks = prepare(open_study(folder), SILENT, options).quality
        (coverage,) = [check for check in checks if check.check == "coverage"]
        assert coverage.passed is not cut, coverage.message
        assert ("brain's surface (right, " in coverage.message) is cut
