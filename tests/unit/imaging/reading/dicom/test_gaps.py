"""Slices at uneven depths: what is missing is counted, and interpolated only where it is little."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lesionlens.base.grid import Grid
from lesionlens.imaging.reading.dicom import pixels, series
from lesionlens.imaging.reading.dicom.scan import DicomSlice

FIRST = DicomSlice("one", {"SliceThickness": 3.0})


def planes(*depths):
    return series._planes(np.array(depths, float), FIRST)


def test_missing_slices_are_counted_by_the_distance_of_the_others():
    count, step_mm, words = planes(0, 5, 10, 20.1, 25.1, 30.1)
    assert (type(count), count, step_mm) == (int, 7, pytest.approx(5.0))
    assert words == "1 slice(s) missing: gaps of up to 10.1 mm, slice spacing 5.0 mm"


def test_distances_without_a_common_step_are_uneven_not_missing():
    count, step_mm, words = planes(0, 5, 9, 16.5, 20)
    assert (count, step_mm) == (5, pytest.approx(5.0))
    assert words == "uneven slice spacing: distances of 3.5 to 7.5 mm"


@pytest.mark.parametrize(
    ("total", "missing", "problem"),
    [
        (40, (), None),
        (40, (10,), None),
        (40, (10, 11), None),
        (40, (10, 11, 12), "missing"),
        (40, (4, 10, 16, 22), None),
        (40, (4, 10, 16, 22, 28), "missing"),
    ],
    ids=["none", "one", "two together", "three together", "four apart", "five apart"],
)
def test_few_missing_slices_are_interpolated_but_not_many_or_a_wide_gap(total, missing, problem):
    depth_mm = np.delete(5.0 * np.arange(total), list(missing))
    stack = SimpleNamespace(
        even=not missing,
        grid=Grid((4, 4, total), np.diag([1.0, 1.0, 5.0, 1.0])),
        slices=[None] * len(depth_mm),
        depth_mm=depth_mm,
        notices=("another", "missing"),
    )
    assert series.gap_problem(stack) == problem


@given(st.lists(st.floats(0.5, 9), min_size=2, max_size=8), st.integers(2, 20))
def test_interpolated_planes_lie_on_the_line_between_their_neighbours(steps, count):
    """Intensities that rise with depth rise so on any even planes too."""
    depth_mm = np.concatenate([[0.0], np.cumsum(steps)])
    slices = np.float32(depth_mm[:, None, None] * np.ones((1, 2, 3)))
    found = pixels._evenly_spaced(slices, depth_mm, count)
    expected = np.linspace(0.0, depth_mm[-1], count)[:, None, None]
    np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), atol=1e-4)
