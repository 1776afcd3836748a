"""Trust checks against an engine that needs one place, and maps that do or do not show it."""

import numpy as np
import pytest
from tests.helpers.perturbable_engine import PerturbableEngine

from lesionlens.analysis.explain import faithfulness as trust
from lesionlens.analysis.explain.perturbation_runner import PerturbationRunner
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


OUTSIDE = np.zeros(SHAPE, bool)
OUTSIDE[12:22, 4:12, 4:14] = True


def by_what_is_seen(keep, hidden):
    return np.full(SHAPE, 0.02 + 0.9 * (1 - hidden[NEEDED].mean()), np.float32)


def checked(attention, make_prepared, engine=None, region=Region.WT, others=NEEDED, coarse=0.0):
    engine = engine or PerturbableEngine(GRID, by_what_is_seen, by_what_is_seen)
    flagged = np.flatnonzero(NEEDED)
    trials = {one: trust.TestedMap(map_on(others), flagged) for one in Region}
    trials[region] = trust.TestedMap(attention, flagged, coarse)
    found = {one: trust.pointing(attention, NEEDED, float(BRAIN.sum())) for one in Region}
    questions = PerturbationRunner(engine, make_prepared())
    return trust.insertion_test(found, questions, trials, BRAIN)[region]


def map_on(place, background=1e-4):
    return np.where(place, 1.0, background).astype(np.float32)


@pytest.mark.parametrize("region", Region)
def test_a_map_of_what_is_needed_passes(make_prepared, region):
    found = checked(map_on(NEEDED), make_prepared, region=region)
    assert found.reliable
    assert found.peak_inside
    assert found.mass_inside > 0.8 > found.volume_share
    assert found.kept > 0.9
    assert found.kept_random < 0.3
    assert found.deletion < 0.1 if region is Region.WT else found.deletion is None
    assert found.verdict == "passed its checks"


@pytest.mark.parametrize("region", Region)
def test_a_map_of_another_place_fails_with_its_reasons(make_prepared, region):
    found = checked(map_on(ELSEWHERE), make_prepared, region=region)
    assert found.reliable is False
    assert trust.faults_of(found) == (
        trust.MapFault.PEAK_OUTSIDE,
        trust.MapFault.PARTLY_OUTSIDE,
        trust.MapFault.TOO_LITTLE,
    )


def test_a_map_that_only_points_but_does_not_matter_fails(make_prepared):
    attention = map_on(ELSEWHERE)
    attention[5, 5, 5] = 2.0
    found = checked(attention, make_prepared)
    assert found.peak_inside
    assert trust.MapFault.TOO_LITTLE in trust.faults_of(found)


def test_a_map_partly_elsewhere_fails_though_what_it_shows_is_needed(make_prepared):
    attention = map_on(NEEDED) + map_on(OUTSIDE) * np.float32(0.03)
    found = checked(attention, make_prepared)
    assert found.peak_inside
    assert found.kept > found.kept_random + trust.MIN_INSERTION_LEAD
    assert found.mass_inside > trust.MIN_MASS_INSIDE
    assert trust.faults_of(found) == (trust.MapFault.PARTLY_OUTSIDE,)
    assert found.verdict.startswith("not reliable here: too much of its attention lies outside")


def test_a_map_fails_where_the_others_of_its_layer_lie_elsewhere(make_prepared):
    found = checked(map_on(NEEDED), make_prepared, others=ELSEWHERE)
    assert found.others_near < trust.MIN_NEAR < found.near
    assert trust.faults_of(found) == (trust.MapFault.OTHERS_OUTSIDE,)
    assert found.reliable is False


def test_a_map_that_lies_outside_by_its_coarseness_alone_is_not_contradicted(make_prepared):
    perfect = trust.as_coarse(NEEDED.astype(np.float32), 4)
    fine = checked(perfect, make_prepared)
    assert trust.MapFault.PARTLY_OUTSIDE in trust.faults_of(fine)
    coarse = checked(perfect, make_prepared, coarse=4.0)
    assert coarse.near == pytest.approx(coarse.attainable) == pytest.approx(fine.near)
    assert (coarse.reliable, coarse.verdict) == (None, trust.TOO_COARSE)
    moved = np.roll(perfect, 3, axis=0)
    assert checked(moved, make_prepared, coarse=4.0).reliable is False


def test_what_voxels_alone_evoke_is_at_most_all_of_the_probability(make_prepared):
    def more_if_hidden(keep, hidden):
        return np.full(SHAPE, 0.9 if hidden.any() else 0.6, np.float32)

    found = checked(map_on(NEEDED), make_prepared, PerturbableEngine(GRID, more_if_hidden))
    assert (found.kept, found.kept_random, found.kept_centre, found.deletion) == (1, 1, 1, 1)


def test_a_region_of_which_nothing_is_flagged_costs_no_pass(make_prepared):
    engine = PerturbableEngine(GRID, by_what_is_seen, by_what_is_seen)
    trials = {Region.WT: trust.TestedMap(map_on(NEEDED), np.flatnonzero(NEEDED))}
    trials[Region.ET] = trust.TestedMap(map_on(NEEDED), np.zeros(0, np.intp))
    checks = {one: trust.pointing(map_on(NEEDED), NEEDED, 1e4) for one in trials}
    runner = PerturbationRunner(engine, make_prepared())
    found = trust.insertion_test(checks, runner, trials, BRAIN)
    assert engine.sizes == [5]
    assert found[Region.WT].kept is not None
    assert found[Region.ET] == checks[Region.ET]


def test_without_perturbed_predictions_where_it_lies_is_judged():
    assert trust.pointing(map_on(NEEDED), NEEDED, 1e4).reliable
    spread = trust.pointing(map_on(NEEDED) + map_on(OUTSIDE) * np.float32(0.5), NEEDED, 1e4)
    assert spread.peak_inside
    assert spread.reliable is False


def test_nothing_flagged_is_not_judged():
    found = trust.pointing(map_on(NEEDED), np.zeros(SHAPE, bool), 100.0)
    assert found.reliable is None
    assert "not checked" in found.verdict
    empty = trust.pointing(np.zeros(SHAPE, np.float32), NEEDED, 100.0)
    assert empty.reliable is None


def test_an_even_map_has_the_mass_of_its_volume():
    found = trust.pointing(BRAIN.astype(np.float32), NEEDED, float(BRAIN.sum()))
    assert found.mass_inside == pytest.approx(found.volume_share)


def test_a_region_that_any_voxels_evoke_is_not_explained_by_the_map(make_prepared):
    def by_amount(keep, hidden):
        return np.full(SHAPE, 0.9 if (~hidden & BRAIN).sum() >= 64 else 0.1, np.float32)

    found = checked(map_on(NEEDED), make_prepared, PerturbableEngine(GRID, by_amount))
    assert found.kept == found.kept_random == 1
    assert trust.faults_of(found) == (trust.MapFault.TOO_LITTLE,)


def test_hiding_is_measured_but_not_judged(make_prepared):
    def from_either(keep, hidden):
        seen = max(1 - hidden[place].mean() for place in (NEEDED, ELSEWHERE))
        return np.full(SHAPE, 0.9 * seen, np.float32)

    found = checked(map_on(NEEDED), make_prepared, PerturbableEngine(GRID, from_either))
    assert found.deletion == 1
    assert found.reliable


def test_the_brains_centre_may_not_do_as_well(make_prepared):
    centre = np.s_[10:14, 11:15, 8:12]

    def by_centre(keep, hidden):
        if not hidden.any() or not hidden[centre].mean() > 0.5:
            return np.full(SHAPE, 0.9, np.float32)
        return np.full(SHAPE, 0.1 + 0.7 * (1 - hidden[NEEDED].mean()), np.float32)

    found = checked(map_on(NEEDED), make_prepared, PerturbableEngine(GRID, by_centre))
    assert found.kept_random + trust.MIN_INSERTION_LEAD < found.kept < found.kept_centre
    assert "centre" in found.verdict


def test_a_pass_that_sees_nothing_there_explains_nothing(make_prepared):
    blind = PerturbableEngine(GRID, lambda keep, hidden: np.full(SHAPE, 0.01, np.float32))
    found = checked(map_on(NEEDED), make_prepared, blind)
    assert found.kept is None
    assert found.reliable is False
    assert "barely detects" in found.verdict


def test_an_engine_of_whole_tumours_alone_leaves_the_other_maps_as_they_were(make_prepared):
    engine = PerturbableEngine(GRID, by_what_is_seen)
    found = checked(map_on(ELSEWHERE), make_prepared, engine, Region.TC)
    assert found.kept is None
    assert found.peak_inside is False
    assert engine.sizes == [5]


def test_maps_are_sampled_where_they_lie():
    fine = Grid((12, 10, 8), np.eye(4))
    values = np.random.default_rng(0).random(fine.shape).astype(np.float32)
    coarse = Grid((4, 3, 3), np.array([[3.0, 0, 0, 1], [0, 3, 0, 1], [0, 0, 3, 0], [0, 0, 0, 1]]))
    np.testing.assert_array_equal(trust.resampled(values, fine, coarse), values[1::3, 1:9:3, ::3])


def test_each_region_is_checked_against_its_own_labels():
    labels = np.where(NEEDED, 2, 0).astype(np.uint8)
    labels[5, 5, 5] = 3
    maps = {region: map_on(NEEDED) for region in Region}
    found = trust.pointing_by_region(maps, labels, float(BRAIN.sum()))
    assert found[Region.WT].mass_inside > found[Region.ET].mass_inside
