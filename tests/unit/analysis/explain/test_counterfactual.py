"""What if a region were not there: an engine whose second finding leans on the first."""

import numpy as np
import pytest
from tests.helpers.perturbable_engine import PerturbableEngine

from lesionlens.analysis.explain import counterfactual
from lesionlens.analysis.findings.component_scores import ComponentVoxels
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.grid import Grid
from lesionlens.base.records.prediction import (
    Capability,
    EngineInfo,
    PerturbedPrediction,
    Prediction,
    Scoring,
)
from lesionlens.base.run_context import RunContext

SHAPE = (20, 20, 20)
GRID = Grid(SHAPE, np.diag([3.0, 3.0, 3.0, 1.0]))
FIRST, SECOND = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
FIRST[3:6, 3:6, 3:6] = True
SECOND[12:16, 12:16, 12:16] = True
SPOTS = [ComponentVoxels(np.flatnonzero(FIRST), 1.0), ComponentVoxels(np.flatnonzero(SECOND), 2.0)]


def leaning(keep, hidden):
    answer = np.full(SHAPE, 0.01, np.float32)
    if any(keep):
        answer[FIRST & ~hidden] = 0.9
        answer[SECOND & ~hidden] = 0.2 if hidden[FIRST].any() else 0.8
    return answer


@pytest.fixture
def asked(make_prepared):
    prepared, engine = make_prepared(), PerturbableEngine(GRID, leaning)
    info = EngineInfo("leaning", "1", None, frozenset({Capability.PERTURB}))
    shown = np.full((1, *SHAPE), 0.01, np.float32)
    shown[0, FIRST], shown[0, SECOND] = 0.9, 0.8
    prediction = Prediction({}, info, unperturbed=PerturbedPrediction(shown, GRID))
    return lambda index: counterfactual.without_candidate(
        engine, prepared, prediction, SPOTS, index, RunContext()
    )


def test_hiding_a_region_takes_its_score_and_what_leans_on_it(asked):
    found = asked(0)
    assert found.before == pytest.approx((0.9, 0.8), abs=1e-6)
    assert found.after == (0, 0)
    assert found.text == (
        "score by the first pass: 0.90 as it is, nothing drawn with this region occluded (nothing "
        "drawn without any image); candidate 2: 0.80 as it is, nothing drawn then"
    )


def test_a_large_outline_scores_nothing_without_an_image(make_prepared):
    prepared, engine = make_prepared(), PerturbableEngine(GRID, leaning)
    info = EngineInfo("leaning", "1", None, frozenset({Capability.PERTURB}))
    seen = PerturbedPrediction(leaning((True,) * 4, np.zeros(SHAPE, bool))[None], GRID)
    by_size = Scoring(intercept=2.0, logit=0.3, log_ml=0.5)
    prediction = Prediction({}, info, unperturbed=seen, scoring=by_size)
    large = [ComponentVoxels(np.flatnonzero(FIRST), 130.0)]
    found = counterfactual.without_candidate(engine, prepared, prediction, large, 0, RunContext())
    assert found.before[0] > 0.95
    assert found.after[0] == found.base == 0


def test_hiding_a_region_that_nothing_leans_on_changes_only_it(asked):
    found = asked(1)
    assert found.after[0] == pytest.approx(0.9, abs=1e-6)
    assert "candidate" not in found.text


def test_an_unknown_candidate_is_refused(asked):
    with pytest.raises(UnusableInputError, match="one of this result"):
        asked(2)


def test_no_score_is_worded_as_certain():
    """A score of .998 read 1.00, where the table beside it says >0.99."""
    text = counterfactual._result_text(np.array([0.998, 0.9]), np.array([0.004, 0.001]), 0, 0.0)
    assert text == (
        "score by the first pass: >0.99 as it is, <0.01 with this region occluded (nothing drawn "
        "without any image); candidate 2: 0.90 as it is, <0.01 then"
    )
