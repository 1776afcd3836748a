"""Questions to an engine: an engine of our own, whose answers are known in advance."""

import numpy as np
import pytest
from tests.perturbable import Perturbable

from lesionlens.analysis.explain import perturbations, probe
from lesionlens.analysis.explain.questions import Questions
from lesionlens.analysis.findings.component_scores import ComponentVoxels
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.grid import Grid
from lesionlens.base.records.prediction import (
    Capability,
    EngineInfo,
    InputPerturbation,
    Prediction,
    Trace,
)
from lesionlens.base.run_context import SILENT

GRID = Grid((6, 5, 4), np.eye(4))


SHARES = np.array([0.01, 0.2, 0.1, 0.5])
"""What each sequence that is seen adds to 0.05."""


def asked_of(prepared, components):
    engine = Perturbable(
        GRID,
        lambda keep, _: np.full(GRID.shape, 0.05 + (SHARES * keep * prepared.present).sum()),
    )
    full = engine.predict_perturbed(prepared, [InputPerturbation((True,) * 4)], context=SILENT)
    engine.asked.clear()
    info = EngineInfo("additive", "1", None, frozenset({Capability.PERTURB}))
    prediction = Prediction({}, info, unperturbed=full)
    answers = perturbations.ask(Questions(engine, prepared), prediction, components)
    return answers, engine


def test_each_sequence_gets_what_it_adds(make_prepared):
    answers, engine = asked_of(make_prepared(), [ComponentVoxels(np.arange(10), 1.0)])
    assert answers.scores[0] == pytest.approx(0.86, abs=1e-6)
    assert answers.relevance[0] == pytest.approx(
        {"t1": 0.01, "t1c": 0.2, "t2": 0.1, "flair": 0.5, "none": 0.05}, abs=1e-4
    )
    assert answers.alone[0]["t1c"] == pytest.approx(0.25, abs=1e-6)
    assert answers.left_out[0]["t1c"] == pytest.approx(0.66, abs=1e-6)
    assert len(engine.asked) == 16


def test_absent_sequences_cost_no_pass(make_prepared):
    answers, engine = asked_of(
        make_prepared(present={"flair", "t2"}), [ComponentVoxels(np.arange(10), 1.0)]
    )
    assert answers.relevance[0]["t1c"] is answers.alone[0]["t1c"] is None
    assert answers.alone[0]["t2"] == pytest.approx(0.15, abs=1e-6)
    assert sum(v for v in answers.relevance[0].values() if v is not None) == pytest.approx(
        answers.scores[0]
    )
    assert len(engine.asked) == 4


def test_without_a_candidate_only_uncertainty_is_asked(make_prepared):
    answers, engine = asked_of(make_prepared(), [])
    assert answers.relevance is None
    assert len(engine.asked) == 5
    voices = np.array([0.86, 0.86, 0.85, 0.66, 0.76, 0.36])
    assert answers.uncertainty.max() == pytest.approx(1 - (2 * voices.mean() - 1), abs=1e-5)


def test_one_sequence_alone_is_only_mirrored(make_prepared):
    answers, engine = asked_of(make_prepared(present={"flair"}), [])
    assert len(engine.asked) == 1
    assert engine.asked[0].mirrored
    assert answers.uncertainty.max() == pytest.approx(1 - (1 - 2 * 0.55) * -1, abs=1e-5)


def test_a_probe_answers_on_the_native_grid(make_prepared):
    prepared = make_prepared()

    def row(voxel):
        out = np.zeros(prepared.working.shape, np.float32)
        out[voxel] = 1.0
        return out

    trace = Trace({}, "a test", (), row)
    inside = np.argwhere(prepared.brain)
    voxel = tuple(int(v) for v in inside[len(inside) // 2])
    answer = probe.ask(trace, prepared, voxel)
    assert answer.data.shape == prepared.native.shape
    assert answer.data[voxel] == 1
    with pytest.raises(UnusableInputError, match="outside the brain"):
        probe.ask(trace, prepared, (0, 0, 0))
    with pytest.raises(UnusableInputError, match="an index within"):
        probe.ask(trace, prepared, (10, 11, 4000))
    with pytest.raises(UnusableInputError, match="keeps no self-attention"):
        probe.ask(None, prepared, (10, 11, 12))
