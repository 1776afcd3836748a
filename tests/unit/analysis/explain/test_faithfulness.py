"""Trust checks against an engine that needs one place, and maps that do or do not show it."""

import numpy as np
import pytest
from tests.perturbable import Perturbable

from lesionlens.analysis.explain import faithfulness as trust
from lesionlens.analysis.explain.questions import Questions
from lesionlens.analysis.findings.component_scores import ComponentVoxels
from lesionlens.base.grid import Grid
from lesionlens.base.labels import Region

SHAPE = (24, 26, 20)
GRID = Grid(SHAPE, np.diag([3.0, 3.0, 3.0, 1.0]))
BRAIN = np.zeros(SHAPE, bool)
BRAIN[2:-2, 2:-2, 2:-2] = True
NEEDED = np.zeros(SHAPE, bool)
NEEDED[4:8, 4:8, 4:8] = True
ELSEWHERE = np.zeros(SHAPE, bool)
ELSEWHERE[15:19, 16:20, 12:16] = True


def by_what_is_needed(keep, hidden):
    return np.full(SHAPE, 0.02 + 0.9 * (1 - hidden[NEEDED].mean()), np.float32)


def checked(attention, make_prepared, engine=None):
    spots = [ComponentVoxels(np.flatnonzero(NEEDED), 1.0)]
    found = trust.pointing(attention, NEEDED, float(BRAIN.sum()))
    questions = Questions(engine or Perturbable(GRID, by_what_is_needed), make_prepared())
    return trust.deletion_test(found, questions, attention, BRAIN, spots)


def map_on(place, background=1e-4):
    return np.where(place, 1.0, background).astype(np.float32)


def test_a_map_of_what_is_needed_passes(make_prepared):
    found = checked(map_on(NEEDED), make_prepared)
    assert found.reliable
    assert found.peak_inside
    assert found.mass_inside > 0.8 > found.volume_share
    assert found.deletion < 0.5 * found.deletion_random
    assert found.insertion > 0.9 > found.insertion_random
    assert found.words == "passed its checks"


def test_a_map_of_another_place_fails_with_its_reasons(make_prepared):
    found = checked(map_on(ELSEWHERE), make_prepared)
    assert found.reliable is False
    assert "peak lies outside" in found.words
    assert "changes the probability too little" in found.words


def test_a_map_that_only_points_but_does_not_matter_fails(make_prepared):
    attention = map_on(ELSEWHERE)
    attention[5, 5, 5] = 2.0
    found = checked(attention, make_prepared)
    assert found.peak_inside
    assert found.reliable is False


def test_nothing_flagged_is_not_judged():
    found = trust.pointing(map_on(NEEDED), np.zeros(SHAPE, bool), 100.0)
    assert found.reliable is None
    assert "not checked" in found.words
    empty = trust.pointing(np.zeros(SHAPE, np.float32), NEEDED, 100.0)
    assert empty.reliable is None


def test_an_even_map_has_the_mass_of_its_volume():
    found = trust.pointing(BRAIN.astype(np.float32), NEEDED, float(BRAIN.sum()))
    assert found.mass_inside == pytest.approx(found.volume_share)


def test_as_much_is_hidden_of_each_map():
    ranks = trust._ranks(map_on(NEEDED), BRAIN)
    for count in (32, 64):
        hidden = trust._hidden(ranks, BRAIN, count)
        assert [int(h.sum()) for h in hidden.values()] == [count] * 3
        assert not any(h[~BRAIN].any() for h in hidden.values())
    shown = trust._shown(ranks, BRAIN, 64)
    assert [int((~h & BRAIN).sum()) for h in shown.values()] == [128, 128]


def test_a_half_step_is_asked_only_where_the_whole_one_mattered(make_prepared):
    engine = Perturbable(GRID, by_what_is_needed)
    found = checked(map_on(NEEDED), make_prepared, engine)
    assert engine.sizes == [6, 2]
    assert found.deletion_centre == pytest.approx(1)
    half, whole = 0.02 + 0.45, 0.02
    assert found.deletion == pytest.approx((half + whole) / 2 / 0.92, abs=0.02)


def test_maps_are_sampled_where_they_lie():
    fine = Grid((12, 10, 8), np.eye(4))
    values = np.random.default_rng(0).random(fine.shape).astype(np.float32)
    coarse = Grid((4, 3, 3), np.array([[3.0, 0, 0, 1], [0, 3, 0, 1], [0, 0, 3, 0], [0, 0, 0, 1]]))
    np.testing.assert_array_equal(trust.onto(values, fine, coarse), values[1::3, 1:9:3, ::3])


def test_each_region_is_checked_against_its_own_labels():
    labels = np.where(NEEDED, 2, 0).astype(np.uint8)
    labels[5, 5, 5] = 3
    maps = {region: map_on(NEEDED) for region in Region}
    found = trust.all_pointing(maps, labels, float(BRAIN.sum()))
    assert found[Region.WT].mass_inside > found[Region.ET].mass_inside
