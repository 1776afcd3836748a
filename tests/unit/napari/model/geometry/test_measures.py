"""Figures beside rulers, angles and ellipses, against shapes whose figures are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lesionlens.napari.model.geometry.measures import (
    Measure,
    MeasureKind,
    RegionStatistics,
    ellipse,
    statistics_of,
)
from lesionlens.napari.model.geometry.slices import Slice

numbers = st.floats(-20, 20).map(lambda value: round(value, 3))
corners_of = st.tuples(numbers, numbers, numbers, numbers).map(lambda c: np.reshape(c, (2, 2)))


@given(corners_of, st.integers(0, 9))
def test_an_ellipse_counts_the_voxels_whose_centres_lie_inside(corners, seed):
    """Voxels of 0.5 x 2 mm in slices of 5 mm; some have no value."""
    values = np.random.default_rng(seed).normal(50, 9, (12, 30))
    values[::3, ::4] = np.nan
    part = Slice(values, (-8.0, -11.0), (15.0, 24.0), 1, 1, 5.0, interpolated=False)
    (left, top), (right, bottom) = np.sort(corners, axis=0)
    half = max((right - left) / 2, 1e-9), max((bottom - top) / 2, 1e-9)
    x = np.arange(30) * 0.5 - 7.75
    y = np.arange(12) * 2.0 - 10.0
    away = np.hypot(
        (x - (left + right) / 2) / half[0], ((y - (top + bottom) / 2) / half[1])[:, None]
    )
    assume(np.abs(away - 1).min() > 1e-9)
    inside = values[away < 1]
    known = inside[np.isfinite(inside)]
    found = statistics_of(part, corners)
    assert (found.count, found.empty) == (len(known), len(inside) - len(known))
    assert found.area_mm2 == pytest.approx(np.pi * (right - left) * (bottom - top) / 4)
    assert found.volume_ml == pytest.approx(found.area_mm2 * 5 / 1000)
    if len(known):
        figures = found.mean, found.minimum, found.maximum
        assert figures == pytest.approx((known.mean(), known.min(), known.max()))
    assert found.sd == pytest.approx(np.std(known, ddof=1) if len(known) > 1 else 0.0)


@given(corners_of)
def test_the_line_of_an_ellipse_is_closed_and_touches_all_four_sides(corners):
    line = ellipse(corners)
    np.testing.assert_allclose(line[0], line[-1], atol=1e-9)
    np.testing.assert_allclose(line.min(axis=0), corners.min(axis=0), atol=0.1)
    np.testing.assert_allclose(line.max(axis=0), corners.max(axis=0), atol=0.1)
    steps = np.linalg.norm(np.diff(line, axis=0), axis=1)
    assert steps.max() <= np.abs(np.diff(corners, axis=0)).max() / 4 + 1e-9


@given(st.floats(1, 179), st.tuples(numbers, numbers, numbers), st.floats(2, 30))
def test_an_angle_is_that_between_its_arms(degrees, vertex, length):
    first = np.add(vertex, (10.0, 0.0, 0.0))
    turn = np.radians(degrees)
    second = np.add(vertex, (length * np.cos(turn), 0.0, length * np.sin(turn)))
    points = tuple(tuple(map(float, point)) for point in (first, vertex, second))
    text = Measure(MeasureKind.ANGLE, points).text
    assert float(text.removesuffix("°")) == pytest.approx(degrees, abs=0.51)
    assert Measure(MeasureKind.ANGLE, points[:2]).text == ""
    assert Measure(MeasureKind.ANGLE, (*points[:2], points[1])).text == ""


def test_what_is_interpolated_or_empty_is_stated():
    def lines(**changes):
        return RegionStatistics(
            **{"count": 4, "mean": 7.5, "sd": 2.08, "minimum": 5.0, "maximum": 10.0,
               "area_mm2": 3.14, "volume_ml": 0.0157, **changes}
        ).lines  # fmt: skip

    assert lines() == ("mean 7.5 · SD 2.08", "min 5 · max 10", "3 mm² · 0.02 ml · 4 voxels")
    assert lines(interpolated=True)[2].endswith("4 interpolated values")
    assert lines(empty=2)[3:] == ("2 more without a value",)
    assert lines(count=0)[1:] == ("no voxel inside",)
    assert lines(count=0, empty=2)[1:] == ("no value inside",)
