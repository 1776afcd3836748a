"""Lesions of two examinations are the same where they lie, whatever their numbers."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from lesionlens.analysis.followup.matching import Matches, gone_lesions, match, returned
from lesionlens.base.geometry import apply
from lesionlens.base.grid import Grid
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.followup import VanishedLesion

PLACES = {1: (-30.0, 20.0, 10.0), 2: (30.0, 20.0, 10.0), 3: (-30.0, -20.0, -14.0)}
"""Two mirror each other: left and right."""


def grid_of(affine=None, edge=2.0, size=60):
    start = np.eye(4) if affine is None else affine
    step = np.diag([edge, edge, edge, 1.0])
    step[:3, 3] = -edge * (size - 1) / 2
    return Grid((size, size, size), start @ step)


def balls(grid, places, radius_mm=6.0):
    """Return components, each a ball at a place in the grid's own RAS+ mm."""
    at = grid.to_mm(np.moveaxis(np.indices(grid.shape), 0, -1))
    components = np.zeros(grid.shape, np.int32)
    for number, place in places.items():
        components[np.linalg.norm(at - place, axis=-1) <= radius_mm] = number
    return Volume(components, grid)


def moved_head(degrees, shift_mm):
    """Map of the current examination's RAS+ mm to the prior's."""
    out = np.eye(4)
    out[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    out[:3, 3] = shift_mm
    return out


PRIOR = balls(grid_of(), PLACES)


@settings(max_examples=12)
@given(
    st.permutations([1, 2, 3]),
    st.tuples(*(st.floats(-25, 25) for _ in range(3))),
    st.tuples(*(st.floats(-15, 15) for _ in range(3))),
)
def test_lesions_are_matched_by_their_place_after_registration(numbers, degrees, shift_mm):
    current_to_prior = moved_head(degrees, shift_mm)
    back = np.linalg.inv(current_to_prior)
    current = grid_of(back)  # as the head lies now
    places = {n: apply(back, PLACES[one]) for n, one in zip(numbers, PLACES, strict=True)}
    found = match(PRIOR, balls(current, places), current_to_prior)
    assert sorted(found.pairs) == [(one, n) for n, one in zip(numbers, PLACES, strict=True)]
    assert found.further == ()


@pytest.mark.parametrize(("away_mm", "pairs"), [(15.0, ((1, 1),)), (24.0, ())])
def test_separate_lesions_are_matched_only_if_they_are_near(away_mm, pairs):
    grid = grid_of()
    now = balls(grid, {1: (-30.0 + away_mm, 20.0, 10.0)})
    prior = balls(grid, {1: PLACES[1]})
    assert match(prior, now, np.eye(4)).pairs == pairs


def test_what_overlaps_is_matched_before_what_is_only_near():
    grid = grid_of()
    prior = balls(grid, {1: (-30.0, 20.0, 10.0)})
    now = balls(grid, {1: (-15.0, 20.0, 10.0), 2: (-34.0, 20.0, 10.0)})
    assert match(prior, now, np.eye(4)) == Matches(((1, 2),), ())


def test_of_what_is_near_the_nearer_is_matched_and_of_what_overlaps_the_larger_part():
    grid = grid_of()
    prior = balls(grid, {1: (-30.0, 20.0, 10.0)})
    near = balls(grid, {1: (-14.0, 20.0, 10.0), 2: (-44.0, 20.0, 10.0)})
    assert match(prior, near, np.eye(4)).pairs == ((1, 2),)
    assert match(near, prior, np.eye(4)).pairs == ((2, 1),)
    first = balls(grid, {1: (-24.0, 20.0, 10.0)}, radius_mm=4.0)
    second = balls(grid, {2: (-34.0, 20.0, 10.0)}, radius_mm=5.0)
    parts = Volume(first.data + second.data, grid)
    assert match(prior, parts, np.eye(4)) == Matches(((1, 2),), ((1, 1),))
    assert match(parts, prior, np.eye(4)) == Matches(((2, 1),), ((1, 1),))
    nothing = balls(grid, {})
    for pair in ((prior, nothing), (nothing, prior)):
        assert match(*pair, np.eye(4)) == Matches((), ())


@pytest.mark.parametrize(("shared", "further"), [(1, ()), (3, ((1, 2),))])
def test_a_part_shares_at_least_a_twentieth_of_the_smaller_lesion(shared, further):
    """The smaller one has 40 voxels, of which the larger one may have as many as a thousandth."""
    larger, parts = np.zeros((2, 60, 60, 60), np.int32)
    larger[10:20, 10:20, 10:20] = parts[10:20, 10:20, 10:18] = 1
    parts[20 - shared : 60 - shared, 15, 19] = 2
    prior, now = Volume(larger, grid_of()), Volume(parts, grid_of())
    assert match(prior, now, np.eye(4)) == Matches(((1, 1),), further)
    back = tuple((b, a) for a, b in further)
    assert match(now, prior, np.eye(4)) == Matches(((1, 1),), back)


def test_two_lesions_within_a_voxel_of_a_coarser_scan_are_parts_of_the_one_there():
    """Lesions overlap as far as the larger voxels reach, whichever examination has them."""
    coarse, fine = grid_of(edge=8.0, size=15), grid_of(edge=1.0, size=31)
    one = balls(coarse, {1: (0.0, 0.0, 0.0)}, radius_mm=1.0)
    two = balls(fine, {1: (3.0, 3.0, 3.0), 2: (-3.0, -3.0, -3.0)}, radius_mm=0.5)
    assert match(one, two, np.eye(4)) == Matches(((1, 1),), ((1, 2),))
    assert match(two, one, np.eye(4)) == Matches(((1, 1),), ((2, 1),))


def test_what_was_not_shown_then_returns_at_its_place_each_once_and_the_nearest_first():
    grid = grid_of()
    vanished = [
        VanishedLesion("near", (-30.0, 20.0, 20.0), 3.0),
        VanishedLesion("nearer", (-30.0, 20.0, 10.0), 3.0),
        VanishedLesion("elsewhere", (0.0, 0.0, 0.0), 3.0),
        VanishedLesion("matched", PLACES[2], 3.0),
        VanishedLesion("large", (-30.0, -20.0, 20.0), 28.0),
    ]
    found = returned(vanished, PRIOR, Matches(((7, 2),), ()))
    assert found == {1: "nearer", 3: "large"}
    split = returned(vanished, PRIOR, Matches((), ((7, 1), (7, 3))))
    assert split == {2: "matched"}
    apart = balls(grid, {1: (-30.0, 20.0, 10.0), 2: (-30.0, 20.0, 24.0)}, radius_mm=5.0)
    one = VanishedLesion("one", (-30.0, 20.0, 19.0), 3.0)
    assert returned([one], apart, Matches((), ())) == {2: "one"}
    assert returned([one], apart, Matches((), ((7, 2),))) == {1: "one"}
    assert returned([one], balls(grid, {1: PLACES[2]}), Matches((), ())) == {}


def test_what_is_gone_has_no_match_of_any_kind_and_keeps_its_size():
    candidates = [
        SimpleNamespace(id=n, tracking_uid=f"9.{n}", centroid_mm=place)
        for n, place in {**PLACES, 4: (0.0, 0.0, 0.0)}.items()
    ]
    gone = gone_lesions(candidates, PRIOR, Matches(((1, 5),), ((3, 6),)))
    assert [(one.tracking_uid, one.at_mm) for one in gone] == [("9.2", PLACES[2])]
    volume_mm3 = 8 * np.count_nonzero(PRIOR.data == 2)
    assert gone[0].radius_mm == pytest.approx((0.75 * volume_mm3 / np.pi) ** (1 / 3))
