"""Slices that were lost: a few are interpolated and named, more cost no part of the brain."""

import numpy as np
import pytest

from lesionlens.imaging.preparation import lost_slices
from lesionlens.imaging.preparation.brain import stripped_brain_mask
from lesionlens.testing import make_patient


@pytest.fixture(scope="module", params=[2.0, 3.0])
def head(request):
    spacing_mm = request.param
    volumes = make_patient(spacing_mm=spacing_mm).sequences.values()
    images = [volume.data for volume in volumes]
    return images, next(iter(volumes)).grid


def without(values, axis, start, count):
    cut = values.copy()
    np.moveaxis(cut, axis, 0)[start : start + count] = 0
    return cut


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_two_lost_slices_are_interpolated_and_counted(head, axis):
    (image, *_), grid = head
    place = image.shape[axis] // 2
    found, notice = lost_slices.interpolate_gaps(without(image, axis, place, 2), grid, "T1c ('x')")
    tissue = image > 100
    assert np.abs(found - image)[tissue].mean() < 0.05 * image[tissue].mean()
    assert notice is not None
    assert notice.startswith("T1c ('x'): 2 blank slice(s) within the head")


@pytest.mark.parametrize("count", [0, 5])
def test_a_whole_scan_and_a_wide_gap_are_left_as_they_are(head, count):
    (image, *_), grid = head
    cut = without(image, 2, 25, count)
    found, notice = lost_slices.interpolate_gaps(cut, grid, "x")
    assert found is cut
    assert notice is None


def test_blank_slices_beside_the_head_are_none_of_it(head):
    (image, *_), grid = head
    assert lost_slices.find_gaps(image, grid) == []
    dotted = image.copy()
    dotted[:, :, -1] = 0
    dotted[10, 10, -1] = image.max()
    assert lost_slices.find_gaps(dotted, grid) == []


def test_a_wide_gap_in_one_sequence_costs_no_part_of_the_brain(head):
    images, grid = head
    whole = stripped_brain_mask(images, grid)
    cut = without(images[0], 2, 25, 5)
    assert (stripped_brain_mask([cut, *images[1:]], grid) == whole).mean() > 0.99
    alone = stripped_brain_mask([cut], grid)
    assert alone[:, :, :25].any()
    assert alone[:, :, 30:].any()
    assert not alone[:, :, 25:30].any()
