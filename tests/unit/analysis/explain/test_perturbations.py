"""Questions to an engine: an engine of our own, whose answers are known in advance."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.helpers.perturbable_engine import PerturbableEngine

from lesionlens.analysis.explain import perturbations, probe
from lesionlens.analysis.explain.perturbation_runner import PerturbationRunner
from lesionlens.analysis.findings.component_scores import ComponentVoxels
from lesionlens.analysis.findings.components import ComponentMask
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.grid import Grid
from lesionlens.base.labels import Label
from lesionlens.base.records.prediction import (
    EngineInfo,
    InputPerturbation,
    PerturbedPrediction,
    Prediction,
    Scoring,
    Trace,
)
from lesionlens.base.run_context import SILENT

GRID = Grid((6, 5, 4), np.eye(4))


SHARES = np.array([0.01, 0.2, 0.1, 0.5])
"""What each sequence that is seen adds to 0.05."""


def asked_of(prepared, components):
    engine = PerturbableEngine(
        GRID,
        lambda keep, _: np.full(GRID.shape, 0.05 + (SHARES * keep * prepared.present).sum()),
    )
    full = engine.predict_subsets(prepared, [InputPerturbation((True,) * 4)], context=SILENT)
    engine.asked.clear()
    info = EngineInfo("additive", "1", None)
    prediction = Prediction({}, info, unperturbed=full)
    return perturbations.predict_subsets(
        PerturbationRunner(engine, prepared), prediction, components
    ), engine


EVERYWHERE = [ComponentVoxels(np.arange(120), 1.0)]
"""One component that fills the grid."""


def test_each_sequence_gets_what_it_would_draw_itself(make_prepared):
    answers, engine = asked_of(make_prepared(), EVERYWHERE)
    expected = {"t1": 0, "t1c": 0, "t2": 0, "flair": 1, "none": 0}  # .55 with FLAIR, .36 without
    assert answers.by_sequence.relevance[0] == pytest.approx(expected)
    assert answers.by_sequence.dice_without[0] == pytest.approx(
        {"t1": 1, "t1c": 1, "t2": 1, "flair": 0}
    )
    assert len(engine.asked) == 16


FINE = Grid((12, 10, 8), np.diag([0.5, 0.5, 0.5, 1.0]))


class Nearsighted(PerturbableEngine):
    """Sees the core, and what T1 shows, at its fine voxel size alone."""

    def __init__(self):
        super().__init__(
            GRID,
            lambda keep, _: np.full(GRID.shape, 0.9 if keep[3] else 0.1),
            lambda keep, _: np.full(GRID.shape, 0.02),
        )

    def predict_subsets(self, prepared, perturbations, *, context):
        if not any(one.fine for one in perturbations):
            return super().predict_subsets(prepared, perturbations, context=context)
        self.asked += perturbations
        values = [0.9 if one.keep[0] or one.keep[3] else 0.1 for one in perturbations]
        seen = np.array(values, np.float32)[:, None, None, None] * np.ones(FINE.shape, np.float32)
        return PerturbedPrediction(seen, FINE, np.stack([seen, seen], axis=1))


def marked_everywhere(label):
    labels = np.full(GRID.shape, label, np.uint8)
    return ComponentMask(labels, np.ones(GRID.shape, np.int32), 1, GRID)


def predicted_by(engine, prepared):
    everything = [InputPerturbation((True,) * 4)]
    full = engine.predict_subsets(prepared, everything, context=SILENT)
    info = EngineInfo("nearsighted", "1", None)
    return Prediction({}, info, unperturbed=full)


@pytest.mark.parametrize(("label", "seen"), [(Label.OEDEMA, True), (Label.CORE, False)])
def test_quick_passes_that_miss_a_flagged_region_do_not_suffice(make_prepared, label, seen):
    prepared, engine = make_prepared(), Nearsighted()
    prediction, runner = predicted_by(engine, prepared), PerturbationRunner(engine, prepared)
    assert perturbations.quick_passes_suffice(runner, prediction, marked_everywhere(label)) is seen


def test_quick_passes_suffice_where_an_engine_says_nothing_of_a_region(make_prepared):
    """It predicts the whole tumour alone, has no time left, or makes no quick passes."""
    prepared = make_prepared()
    engine = PerturbableEngine(GRID, lambda *_: np.full(GRID.shape, 0.9))
    prediction, runner = predicted_by(engine, prepared), PerturbationRunner(engine, prepared)
    flagged = marked_everywhere(Label.CORE)
    assert perturbations.quick_passes_suffice(runner, prediction, flagged)
    assert [one.alone for one in engine.asked] == [False, True]
    no_time = SimpleNamespace(predict=lambda *_: None)
    assert perturbations.quick_passes_suffice(no_time, prediction, flagged)
    without = replace(prediction, unperturbed=None)
    assert perturbations.quick_passes_suffice(runner, without, flagged)


def test_without_a_candidate_quick_passes_suffice(make_prepared):
    prepared, engine = make_prepared(), Nearsighted()
    nothing = ComponentMask(np.zeros(GRID.shape, np.uint8), np.zeros(GRID.shape, np.int32), 0, GRID)
    prediction = predicted_by(engine, prepared)
    engine.asked.clear()
    runner = PerturbationRunner(engine, prepared)
    assert perturbations.quick_passes_suffice(runner, prediction, nothing)
    assert not engine.asked


def test_subsets_are_predicted_at_the_predictions_own_voxel_size_where_needed(make_prepared):
    prepared, engine = make_prepared(), Nearsighted()
    prediction = predicted_by(engine, prepared)
    runner, marked = PerturbationRunner(engine, prepared), marked_everywhere(Label.CORE)
    coarse = perturbations.predict_subsets(runner, prediction, EVERYWHERE)
    fine = perturbations.predict_subsets(runner, prediction, EVERYWHERE, marked)
    assert fine.by_sequence.by_voxel.grid.matches(FINE)
    assert fine.leave_one_out == coarse.leave_one_out == coarse.by_sequence.dice_without
    assert fine.by_sequence.dice_without[0]["flair"] == 1 > fine.leave_one_out[0]["flair"]
    assert coarse.uncertainty.grid.matches(GRID)
    assert fine.uncertainty.grid.matches(FINE)
    # .9, mirrored .9, and without each; without FLAIR .1 in quick passes, .9 in fine ones
    assert coarse.uncertainty.data.max() == pytest.approx(1 - abs(2 * (5 * 0.9 + 0.1) / 6 - 1))
    assert fine.uncertainty.data.max() == pytest.approx(0.2)
    assert len([one for one in engine.asked if one.fine]) == 17


class Cautious(PerturbableEngine):
    """States the threshold of an analysis of each input: .8 without FLAIR."""

    def predict_subsets(self, prepared, perturbations, *, context):
        found = super().predict_subsets(prepared, perturbations, context=context)
        cut_at = tuple(0.5 if one.keep[3] else 0.8 for one in perturbations)
        return replace(found, thresholds=cut_at)


def test_each_subset_is_outlined_at_its_own_threshold_but_scored_at_the_studys(make_prepared):
    engine = Cautious(GRID, lambda keep, _: np.full(GRID.shape, 0.9 if keep[3] else 0.7))
    prepared, everything = make_prepared(present={"t1c", "flair"}), [InputPerturbation()]
    full = engine.predict_subsets(prepared, everything, context=SILENT)
    info = EngineInfo("cautious", "1", None)
    prediction = Prediction({}, info, unperturbed=full)
    answers = perturbations.predict_subsets(
        PerturbationRunner(engine, prepared), prediction, EVERYWHERE
    )
    assert answers.by_sequence.relevance[0]["t1c"] == 0
    assert answers.by_sequence.relevance[0]["flair"] == 1
    assert answers.leave_one_out[0]["flair"] == 1  # .7 without FLAIR, at .5


def test_absent_sequences_cost_no_pass(make_prepared):
    answers, engine = asked_of(make_prepared(present={"flair", "t2"}), EVERYWHERE)
    assert answers.by_sequence.relevance[0]["t1c"] is None
    assert sum(
        v for v in answers.by_sequence.relevance[0].values() if v is not None
    ) == pytest.approx(1)
    assert len(engine.asked) == 4


def test_a_sequence_that_shows_nothing_gets_nothing_of_a_large_outline(make_prepared):
    def by_flair_alone(keep, _):
        return np.where(keep[3], 0.95, 1e-4) * np.ones(GRID.shape)

    prepared, engine = make_prepared(), PerturbableEngine(GRID, by_flair_alone)
    everything = [InputPerturbation((True,) * 4)]
    full = engine.predict_subsets(prepared, everything, context=SILENT)
    info = EngineInfo("flair", "1", None)
    fitted = Scoring(intercept=3.0, logit=0.1, log_ml=0.8)  # counts the size
    prediction = Prediction({}, info, unperturbed=full, scoring=fitted)
    spots = [ComponentVoxels(np.arange(120), 130.0)]
    found = perturbations.predict_subsets(
        PerturbationRunner(engine, prepared), prediction, spots
    ).by_sequence
    assert found.relevance[0]["flair"] > 0.9
    assert max(abs(found.relevance[0][key]) for key in ("t1", "t1c", "t2", "none")) < 0.01


def test_what_is_drawn_elsewhere_counts_against_the_nearest_component():
    spots = [ComponentVoxels(np.array([0]), 1.0), ComponentVoxels(np.array([9]), 1.0)]
    by_all, drawn = np.zeros((10, 1, 1), bool), np.zeros((10, 1, 1), bool)
    by_all[[0, 9]], drawn[[0, 9, 7]] = True, True
    shown = perturbations.subset_overlap(
        drawn, by_all, perturbations._nearest_component(spots, (10, 1, 1)), 2
    )
    assert shown.tolist() == pytest.approx([1, 2 / 3])


def test_without_a_candidate_only_uncertainty_is_asked(make_prepared):
    answers, engine = asked_of(make_prepared(), [])
    assert answers.by_sequence is None
    assert len(engine.asked) == 5
    voices = np.array([0.86, 0.86, 0.85, 0.66, 0.76, 0.36])
    assert answers.uncertainty.data.max() == pytest.approx(1 - (2 * voices.mean() - 1), abs=1e-5)


def test_one_sequence_alone_is_only_mirrored(make_prepared):
    answers, engine = asked_of(make_prepared(present={"flair"}), [])
    assert len(engine.asked) == 1
    assert engine.asked[0].mirrored
    assert answers.uncertainty.data.max() == pytest.approx(1 - (1 - 2 * 0.55) * -1, abs=1e-5)


def test_a_probe_answers_on_the_native_grid(make_prepared):
    prepared = make_prepared()

    def row(voxel):
        out = np.zeros(prepared.working.shape, np.float32)
        out[voxel] = 1.0
        return out

    trace = Trace({}, "a test", (), row)
    inside = np.argwhere(prepared.brain)
    voxel = tuple(int(v) for v in inside[len(inside) // 2])
    answer = probe.voxel_attention(trace, prepared, voxel)
    assert answer.data.shape == prepared.native.shape
    assert answer.data[voxel] == 1
    with pytest.raises(UnusableInputError, match="outside the brain"):
        probe.voxel_attention(trace, prepared, (0, 0, 0))
    with pytest.raises(UnusableInputError, match="an index within"):
        probe.voxel_attention(trace, prepared, (10, 11, 4000))
    with pytest.raises(UnusableInputError, match="keeps no self-attention"):
        probe.voxel_attention(None, prepared, (10, 11, 12))


def test_a_voxel_near_the_brain_shows_the_nearest_voxel_of_it():
    """Only within the reach, which the corners of the searched cube exceed."""
    brain = np.zeros((30, 30, 30), bool)
    brain[:10] = True
    reach = probe.REACH_VOX
    assert probe._nearest_in_brain((9 + reach, 15, 15), brain) == (9, 15, 15)
    assert probe._nearest_in_brain((10 + reach, 15, 15), brain) is None
    corner = np.zeros((30, 30, 30), bool)
    corner[0, 0, 0] = True
    assert probe._nearest_in_brain((reach, 0, 0), corner) == (0, 0, 0)
    assert probe._nearest_in_brain((reach, reach, reach), corner) is None


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(0, 1000))
def test_doubt_lies_between_none_and_one_whatever_the_order_of_voices(voices, seed):
    rng = np.random.default_rng(seed)
    reported = rng.random((voices, 3, 3, 3)).astype(np.float32)
    doubt = perturbations.undecided(reported)
    assert doubt.min() >= -1e-6
    assert doubt.max() <= 1 + 1e-6
    np.testing.assert_allclose(perturbations.undecided(reported[::-1]), doubt, atol=1e-6)
    np.testing.assert_allclose(perturbations.undecided(1 - reported), doubt, atol=1e-5)


def test_sure_answers_leave_no_doubt_and_contradiction_does():
    sure = np.ones((5, 2, 2, 2), np.float32)
    assert perturbations.undecided(sure).max() == 0
    torn = sure.copy()
    torn[:1] = 0
    assert perturbations.undecided(torn).min() == pytest.approx(0.4)
