"""Pictures beside the sequences: placed by header or by registration, and what contrast adds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import PreparedStudy, Series
from lesionlens.imaging.preparation.display_images import align_other_series, subtraction

SHAPE = (48, 56, 48)


@pytest.fixture(scope="module")
def prepared() -> PreparedStudy:
    """A lopsided head of 3 mm voxels; T1c is T1 times two and a blob that takes up contrast."""
    i, j, k = np.indices(SHAPE)
    head = ((i - 24) / 20) ** 2 + ((j - 28) / 24) ** 2 + ((k - 24) / 18) ** 2 < 1
    inner = ((i - 18) / 6) ** 2 + ((j - 34) / 9) ** 2 + ((k - 26) / 5) ** 2 < 1
    t1 = (head * (100 + 60 * inner + 10 * np.sin(i / 3) + k)).astype(np.float32)
    blob = ((i - 32) ** 2 + (j - 20) ** 2 + (k - 20) ** 2 < 16) & head
    channels = np.zeros((4, *SHAPE), np.float32)
    channels[0], channels[1] = t1, 2 * t1 + head * 5 + 300 * blob
    grid = Grid(SHAPE, np.diag([3.0, 3.0, 3.0, 1.0]), "1.2.3")
    return PreparedStudy(
        channels, np.array([True, True, False, False]), head, grid, grid, np.eye(4), MrSequence.T1C
    )


def series(prepared: PreparedStudy, shift: float = 0.0, frame: str | None = None) -> Series:
    affine = prepared.working.affine.copy()
    affine[0, 3] += shift
    values = np.asarray(prepared.channels[0])
    grid = Grid(SHAPE, affine, frame)
    return Series(None, "", 0.0, grid, (), lambda: values, "ep2d_diff_ADC")


def test_the_subtraction_shows_what_contrast_adds_alone(prepared: PreparedStudy) -> None:
    found = subtraction(prepared).volume.data
    assert found[32, 20, 20] == pytest.approx(300, abs=1)
    assert np.abs(found[18:22, 34:38, 26:30]).max() < 1
    outside = (prepared.channels[0] == 0) | (prepared.channels[1] == 0)
    assert outside.any()
    assert np.array_equal(np.isnan(found), outside)  # a fill value would be averaged in a region
    alone = replace(prepared, present=np.array([False, True, False, False]))
    with pytest.raises(UnusableInputError, match="T1 and T1c"):
        subtraction(alone)


def test_a_series_of_the_same_frame_stays_where_its_header_puts_it(prepared: PreparedStudy) -> None:
    found = align_other_series(prepared, series(prepared, shift=12.0, frame="1.2.3"))
    assert (found.name, found.alignment) == ("ADC (ep2d_diff_ADC)", "placed by its header")
    assert found.volume.grid.affine[0, 3] == 12.0


def test_voxels_without_a_value_keep_none_in_another_series(prepared: PreparedStudy) -> None:
    """An ADC map is NaN where it could not be computed; it was shown and measured as 0."""
    values = np.asarray(prepared.channels[0]).copy()
    values[:20, :20], values[20:22] = np.nan, np.inf
    for frame in ("1.2.3", None):
        found = align_other_series(
            prepared, replace(series(prepared, frame=frame), load=lambda: values)
        )
        assert np.array_equal(np.isnan(found.volume.data), ~np.isfinite(values))


def test_a_series_of_another_frame_is_laid_on_the_reference(prepared: PreparedStudy) -> None:
    found = align_other_series(prepared, series(prepared, shift=12.0))
    np.testing.assert_allclose(found.volume.grid.affine[:3, 3], 0.0, atol=1.5)
    assert found.alignment.startswith("moved by 1")
    assert not found.doubtful
    moved = np.roll(prepared.channels[0], 4, axis=0)  # of a later session with equal slices
    again = replace(series(prepared, frame="1.2.4"), load=lambda: moved)
    found = align_other_series(prepared, again)
    np.testing.assert_allclose(found.volume.grid.affine[:3, 3], (-12.0, 0.0, 0.0), atol=1.5)


def test_what_does_not_fit_is_called_doubtful(prepared: PreparedStudy) -> None:
    noise = np.random.default_rng(0).normal(100, 20, SHAPE).astype(np.float32)
    other = replace(series(prepared, shift=12.0), load=lambda: noise)
    found = align_other_series(prepared, other)
    assert found.doubtful
    assert found.alignment.endswith("doubtful: check by eye")
