"""A copy of the head beside itself is named; thick slices and cut fields of view are none."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.imaging.preparation.checks import ghosts

SHAPE = (96, 112, 60)
GRID = Grid(SHAPE, np.eye(4))


@pytest.fixture(scope="module")
def head():
    """Return folded tissue in an ellipsoid."""
    axes = np.ogrid[-1 : 1 : SHAPE[0] * 1j, -1 : 1 : SHAPE[1] * 1j, -1 : 1 : SHAPE[2] * 1j]
    inside = sum((axis / 0.85) ** 2 for axis in axes) < 1
    folds = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=SHAPE), 2)
    tissue = np.where(folds > 0, 130.0, 100.0)
    noise = np.random.default_rng(1).normal(0, 2, SHAPE)
    return (ndimage.gaussian_filter(tissue, 0.7) + noise) * inside


def _check(values):
    return ghosts.check({MrSequence.T2: (values.astype(np.float32), GRID)})


def _copied(head, axis, parts=4, share=0.15):
    copy = np.roll(head, head.shape[axis] // parts, axis)
    return (head + share * copy) * (head > 0)


def test_a_head_without_ghosts_passes(head):
    assert _check(head).passed


@pytest.mark.parametrize("axis", [0, 1])
def test_a_weak_copy_within_the_brain_is_named(head, axis):
    found = _check(_copied(head, axis))
    assert not found.passed
    assert "T2" in found.message


def test_a_copy_in_the_air_is_named(head):
    assert not _check(head + 0.15 * np.roll(head, 28, 1)).passed


def test_so_is_a_copy_of_opposite_sign(head):
    assert not _check(_copied(head, 1, share=-0.15)).passed


@pytest.mark.parametrize("thickness", [5, 7.5])
def test_slices_interpolated_from_thick_ones_are_no_ghosts(head, thickness):
    turned = np.moveaxis(head, 1, 2)
    count = int((turned.shape[2] - 1) / thickness) + 1
    thick = turned[:, :, np.rint(np.arange(count) * thickness).astype(int)]
    places = np.clip(np.arange(turned.shape[2]) / thickness, 0, count - 1)
    low = np.floor(places).astype(int)
    high, part = np.minimum(low + 1, count - 1), places - low
    assert _check(thick[:, :, low] * (1 - part) + thick[:, :, high] * part).passed


def test_the_sides_of_a_cut_field_of_view_are_no_ghosts(head):
    cut = head.copy()
    cut[:20], cut[-20:] = 0, 0
    assert _check(cut).passed


@pytest.mark.parametrize("padding", [0, 4, 9, 14])
def test_nor_are_they_if_faint_voxels_lie_beyond_them(head, padding):
    cut = head.copy()
    cut[:20], cut[-20:] = 0.007 * head[:20], 0.007 * head[-20:]
    assert _check(np.pad(cut, ((padding, 0), (0, 0), (0, 0)))).passed


@pytest.mark.parametrize("shift", [44, 50])
def test_a_copy_nearly_half_a_field_of_view_away_is_named(head, shift):
    assert not _check(head + 0.15 * np.roll(head, shift, 0)).passed


def test_strength_does_not_depend_on_unit(head):
    seen = _copied(head, 1).astype(np.float32)
    assert ghosts.ghost_strength(seen * 1000) == pytest.approx(ghosts.ghost_strength(seen), 1e-4)


def test_what_shows_nothing_has_no_ghosts():
    assert ghosts.ghost_strength(np.zeros(SHAPE, np.float32)) == 0
