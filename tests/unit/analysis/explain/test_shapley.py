"""Shapley values: the four axioms, on any table of scores."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lesionlens.analysis.explain import shapley as relevance
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence

presences = st.sets(st.sampled_from(list(MrSequence)), min_size=1).map(
    lambda chosen: [s for s in MrSequence if s in chosen]
)


def table_of(present, seed):
    rng = np.random.default_rng(seed)
    return {subset: float(rng.random()) for subset in relevance.subsets_of(present)}


@settings(max_examples=60, deadline=None)
@given(presences, st.integers(0, 10_000))
def test_they_sum_to_the_score_and_absent_ones_are_none(present, seed):
    table = table_of(present, seed)
    values = relevance.shapley_values(present, table)
    assert set(values) == {"t1", "t1c", "t2", "flair", "none"}
    assert sum(v for v in values.values() if v is not None) == pytest.approx(
        table[frozenset(present)], abs=1e-9
    )
    assert {key for key, v in values.items() if v is None} == {
        s.value for s in MrSequence if s not in present
    }


@settings(max_examples=40, deadline=None)
@given(presences, st.integers(0, 10_000))
def test_a_sequence_that_changes_nothing_is_worth_nothing(present, seed):
    idle, base = present[0], table_of(present, seed)
    table = {subset: base[subset - {idle}] for subset in base}
    assert relevance.shapley_values(present, table)[idle.value] == pytest.approx(0, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_two_that_add_the_same_are_worth_the_same(seed):
    present = list(MrSequence)
    one, two = present[1], present[3]
    base = table_of(present, seed)

    def swapped(subset):
        return frozenset({one: two, two: one}.get(s, s) for s in subset)

    table = {subset: (base[subset] + base[swapped(subset)]) / 2 for subset in base}
    values = relevance.shapley_values(present, table)
    assert values[one.value] == pytest.approx(values[two.value])


@settings(max_examples=30, deadline=None)
@given(presences, st.integers(0, 10_000), st.integers(0, 10_000))
def test_values_of_a_mean_are_the_mean_of_values(present, one, two):
    tables = [table_of(present, seed) for seed in (one, two)]
    mean = {subset: (tables[0][subset] + tables[1][subset]) / 2 for subset in tables[0]}
    values = [relevance.shapley_values(present, table) for table in (*tables, mean)]
    for sequence in present:
        assert values[2][sequence.value] == pytest.approx(
            (values[0][sequence.value] + values[1][sequence.value]) / 2
        )


@given(st.lists(st.floats(-0.3, 0.9), min_size=4, max_size=4))
def test_a_sequence_is_named_only_where_it_leads_clearly(values):
    shares = dict(zip((s.value for s in MrSequence), values, strict=True))
    first, second = sorted(values, reverse=True)[:2]
    named = relevance.deciding_sequence({**shares, "none": 0.99})
    if first - second < relevance.MIN_LEAD:
        assert named is None
    else:
        assert shares[named.value] == first


def test_one_sequence_alone_is_not_claimed_to_decide():
    assert relevance.deciding_sequence({"flair": 0.7, "t1": None, "t1c": None, "t2": None}) is None


def test_maps_and_base_sum_to_the_probability_at_every_voxel():
    rng = np.random.default_rng(3)
    grid = Grid((5, 6, 7), np.diag([2.0, 2.0, 2.0, 1.0]))
    present = [MrSequence.T1C, MrSequence.T2, MrSequence.FLAIR]
    answers = {s: rng.random(grid.shape, np.float32) for s in relevance.subsets_of(present)}
    found = relevance.evidence_maps(present, answers, grid)
    assert set(found.shares) == set(present)
    total = np.sum([found.base, *found.shares.values()], axis=0, dtype=np.float64)
    np.testing.assert_allclose(total, answers[frozenset(present)], atol=2e-7)
    np.testing.assert_array_equal(found.base, answers[frozenset()])
    at = (2, 3, 4)
    alone = relevance.shapley_values(present, {s: float(a[at]) for s, a in answers.items()})
    assert {s.value: float(m[at]) for s, m in found.shares.items()} == pytest.approx(
        {s.value: alone[s.value] for s in present}, abs=1e-6
    )


def test_the_map_is_largest_for_the_sequence_that_shows_a_region():
    grid = Grid((4, 4, 4), np.eye(4))
    present = list(MrSequence)
    answers = {}
    for shown in relevance.subsets_of(present):
        answer = np.full(grid.shape, 0.1, np.float32)
        answer[:2] += 0.7 * (MrSequence.FLAIR in shown)
        answer[2:] += 0.6 * (MrSequence.T1C in shown)
        answers[shown] = answer
    found = relevance.evidence_maps(present, answers, grid)
    first, second = found.within(np.arange(32)), found.within(np.arange(32, 64))
    assert max(first, key=lambda s: first[s]) is MrSequence.FLAIR
    assert max(second, key=lambda s: second[s]) is MrSequence.T1C
    assert first[MrSequence.T1C] == pytest.approx(0.0, abs=1e-6)
