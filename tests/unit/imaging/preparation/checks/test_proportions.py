"""A brain that the headers stretch or flatten is reported, a nodding or small one is not."""

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from lesionlens.base.run_context import SILENT
from lesionlens.imaging import samples
from lesionlens.imaging.preparation.checks import proportions
from lesionlens.imaging.preparation.prepare import PrepareOptions, prepare
from lesionlens.imaging.preparation.tissue_template import load_template
from lesionlens.imaging.reading.readers import open_study

DIRECTIONS = ("left to right", "back to front", "bottom to top")


@pytest.fixture(scope="module")
def brain():
    return np.pad(load_template().mask > 0.5, 12)


def scaled(mask, axis, factor):
    factors = [1.0, 1.0, 1.0]
    factors[axis] = factor
    return ndimage.zoom(mask.astype(np.float32), factors, order=1) > 0.5


def test_a_brain_as_it_is_has_no_row_of_whatever_size(brain):
    assert proportions.check(brain) is None
    assert proportions.check(ndimage.zoom(brain.astype(np.float32), 0.7, order=1) > 0.5) is None
    assert proportions.check(np.zeros((5, 5, 5), bool)) is None


@pytest.mark.parametrize("degrees", [-30, 30])
@pytest.mark.parametrize("axes", [(1, 2), (0, 1), (0, 2)])
def test_a_turned_brain_has_no_row(brain, axes, degrees):
    turned = ndimage.rotate(brain.astype(np.float32), degrees, axes=axes, order=1) > 0.5
    assert proportions.check(turned) is None


def test_a_low_brain_has_no_row(brain):
    """Below .7 it was called flattened, as one of 27 synthetic heads was."""
    low = scaled(brain, 2, 0.68 / proportions.ratios(brain)[2])
    assert proportions.ratios(low)[2] == pytest.approx(0.68, abs=0.01)
    assert proportions.check(low) is None


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_wrong_spacing_is_reported_with_its_direction(brain, axis):
    for factor, change in ((5 / 3, "stretched"), (3 / 5, "flattened")):
        found = proportions.check(scaled(brain, axis, factor))
        assert found is not None
        assert (found.check, found.passed) == ("proportions", False)
        if axis == 2 or change == "stretched":
            assert f"{change} from {DIRECTIONS[axis]}" in found.message


def test_slices_thinner_in_the_header_than_they_are_fail_the_check(tmp_path):
    for factor, failures in ((1.0, []), (0.6, ["proportions"])):
        folder = tmp_path / str(factor)
        folder.mkdir()
        for name in ("t1c", "flair"):
            image = nib.load(samples.STUDY / f"{name}.nii.gz")
            affine = image.affine @ np.diag([1, 1, factor, 1])
            nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), folder / f"{name}.nii")
        options = PrepareOptions(sides=False, cache=False, edge_mm=2.0)
        checks = prepare(open_study(folder), SILENT, options).quality
        assert [c.check for c in checks if c.check == "proportions"] == failures
