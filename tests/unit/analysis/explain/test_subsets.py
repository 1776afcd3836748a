"""Subsets of the sequences: an engine of our own, whose answers are known in advance."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lesionlens.analysis.explain import probe, subsets
from lesionlens.analysis.findings.component_scores import ComponentVoxels
from lesionlens.analysis.findings.components import ComponentMask
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.grid import Grid
from lesionlens.base.records.prediction import InputPerturbation, PerturbedPrediction, Trace
from lesionlens.base.run_context import SILENT

GRID = Grid((6, 5, 4), np.eye(4))
EVERYWHERE = [ComponentVoxels(np.arange(120), 1.0)]
WHOLE = ComponentMask(np.ones(GRID.shape, np.uint8), np.ones(GRID.shape, np.int32), 1, GRID)


class Additive:
    """Each sequence that is shown adds its share to 0.05, everywhere; `asked` collects inputs."""

    def __init__(self, *shares, careful=False, at=slice(None)):
        self.shares, self.careful, self.at, self.asked = np.array(shares), careful, at, []

    def predict_subsets(self, prepared, inputs, *, context):
        self.asked += inputs
        probability = np.zeros((len(inputs), *GRID.shape), np.float32)
        for number, item in enumerate(inputs):
            shown = np.array(item.keep) & prepared.present
            probability[number].ravel()[self.at] = 0.05 + (self.shares * shown).sum()
        cuts = tuple(0.5 if item.keep[3] else 0.8 for item in inputs) if self.careful else None
        return PerturbedPrediction(probability, GRID, thresholds=cuts)


def left_out(engine, prepared, components=EVERYWHERE):
    everything = engine.predict_subsets(prepared, [InputPerturbation()], context=SILENT)
    engine.asked.clear()
    return subsets.leave_one_out(engine, prepared, everything, components, 0.5, context=SILENT)


def by_sequence(engine, prepared):
    return subsets.by_sequence(engine, prepared, WHOLE, 0.5, context=SILENT)


ALL = (0.01, 0.2, 0.1, 0.5)  # .55 with FLAIR, .36 without


def test_each_sequence_gets_what_it_would_outline_itself(make_prepared):
    engine, prepared = Additive(*ALL), make_prepared()
    found = left_out(engine, prepared)
    assert found.dice_without == [{"t1": 1, "t1c": 1, "t2": 1, "flair": 0}]
    assert len(engine.asked) == 5
    (values,), evidence = by_sequence(engine, prepared)
    assert values == pytest.approx({"t1": 0, "t1c": 0, "t2": 0, "flair": 1, "none": 0})
    assert {s.value: m.mean() for s, m in evidence.shares.items()} == pytest.approx(
        dict(zip(("t1", "t1c", "t2", "flair"), ALL, strict=True)), abs=1e-6
    )


def test_absent_sequences_are_null_and_cost_nothing(make_prepared):
    engine, prepared = Additive(*ALL), make_prepared(present={"flair", "t2"})
    assert left_out(engine, prepared).dice_without[0] == {
        "t1": None, "t1c": None, "t2": 1, "flair": 0,
    }  # fmt: skip
    assert len(engine.asked) == 3
    (values,), _ = by_sequence(engine, prepared)
    assert values["t1c"] is None
    assert sum(v for v in values.values() if v is not None) == pytest.approx(1)


def test_each_subset_is_outlined_at_its_own_threshold_but_scored_at_the_studys(make_prepared):
    engine = Additive(0, 0, 0.65, 0.2, careful=True)
    found = left_out(engine, make_prepared(present={"t2", "flair"}))
    assert found.dice_without[0]["flair"] == 0  # .7 without FLAIR, at .8
    assert found.agreement[0]["flair"] == 1
    (values,), _ = by_sequence(engine, make_prepared(present={"t2", "flair"}))
    assert (values["t2"], values["flair"]) == (0.5, 0.5)


def test_what_the_quick_passes_miss_is_unknown(make_prepared):
    half, none = Additive(*ALL, at=slice(60)), Additive(*ALL, at=slice(0))
    prepared = make_prepared()
    some, nothing = left_out(half, prepared), left_out(none, prepared)
    assert (some.found, some.dice_without) == ([False], [None])
    assert some.agreement[0]["flair"] == 0
    assert nothing.agreement == [None]


def test_a_core_that_the_quick_passes_do_not_detect_makes_the_rest_unknown(make_prepared):
    prepared, engine = make_prepared(), Additive(*ALL)
    everything = engine.predict_subsets(prepared, [InputPerturbation()], context=SILENT)
    core = np.ones(GRID.shape, bool)
    for height, found in ((0.05, False), (0.3, True)):
        inner = np.full((1, 2, *GRID.shape), height, np.float32)
        asked = replace(everything, inner=inner), EVERYWHERE, 0.5, [core, ~core]
        answer = subsets.leave_one_out(engine, prepared, *asked, context=SILENT)
        assert answer.found == [found]


def test_what_is_outlined_elsewhere_counts_for_the_nearest_component(make_prepared):
    two = [ComponentVoxels(np.array([0]), 1.0), ComponentVoxels(np.array([119]), 1.0)]
    found = left_out(Additive(*ALL, at=[0, 119, 118]), make_prepared(), two)
    assert [dice["t1"] for dice in found.dice_without] == [1, 1]
    by_all, drawn = np.zeros((10, 1, 1), bool), np.zeros((10, 1, 1), bool)
    by_all[[0, 9]], drawn[[0, 9, 7]] = True, True
    nearest = np.repeat([0, 1], 5).reshape(10, 1, 1)
    shown = subsets.subset_overlap(drawn, by_all, nearest, 2)
    assert shown.tolist() == pytest.approx([1, 2 / 3])


def test_doubt_is_that_of_everything_mirrored_and_without_each(make_prepared):
    found = left_out(Additive(*ALL), make_prepared(), [])
    voices = np.array([0.86, 0.86, 0.85, 0.66, 0.76, 0.36])
    assert found.uncertainty.max() == pytest.approx(1 - (2 * voices.mean() - 1), abs=1e-5)
    single = left_out(Additive(*ALL), make_prepared(present={"flair"}), [])
    assert single.uncertainty.max() == pytest.approx(0.9, abs=1e-5)  # .55 and mirrored


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(0, 1000))
def test_doubt_lies_between_none_and_one_whatever_the_order_of_voices(voices, seed):
    reported = np.random.default_rng(seed).random((voices, 3, 3, 3)).astype(np.float32)
    doubt = subsets.undecided(reported)
    assert doubt.min() >= -1e-6
    assert doubt.max() <= 1 + 1e-6
    np.testing.assert_allclose(subsets.undecided(reported[::-1]), doubt, atol=1e-6)
    np.testing.assert_allclose(subsets.undecided(1 - reported), doubt, atol=1e-5)


def test_a_probe_answers_on_the_native_grid(make_prepared):
    prepared = make_prepared()

    def row(voxel):
        out = np.zeros(prepared.working.shape, np.float32)
        out[voxel] = 1.0
        return out

    trace = Trace({}, "a test", (), row)
    inside = np.argwhere(prepared.brain)
    voxel = tuple(inside[len(inside) // 2].tolist())
    answer = probe.voxel_attention(trace, prepared, voxel)
    assert answer.data.shape == prepared.native.shape
    assert answer.data[voxel] == 1
    for wrong in ((0, 0, 0), (10, 11, 4000)):
        with pytest.raises(UnusableInputError, match="outside the"):
            probe.voxel_attention(trace, prepared, wrong)
    with pytest.raises(UnusableInputError, match="no self-attention"):
        probe.voxel_attention(None, prepared, voxel)


def test_a_voxel_near_the_brain_shows_the_nearest_voxel_of_it():
    brain, reach = np.zeros((30, 30, 30), bool), probe.REACH_VOX
    brain[:10] = True
    assert probe.nearest_in_brain(np.array([9 + reach, 15, 15]), brain) == (9, 15, 15)
    assert probe.nearest_in_brain(np.array([10 + reach, 15, 15]), brain) is None
    assert probe.nearest_in_brain(np.array([9 + reach, 29, 32]), brain) is None
