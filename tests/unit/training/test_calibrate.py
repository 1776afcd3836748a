"""Calibration recovers what was put in."""

import numpy as np
import pytest

from lesionlens.network import weights
from lesionlens.network.build import build
from lesionlens.synth.draw import DrawConfig
from lesionlens.training import calibrate
from lesionlens.training.calibrate import Found


def _answers(logits, rng):
    return rng.random(logits.shape) < 1 / (1 + np.exp(-logits))


def test_temperature_of_overconfident_logits_is_found():
    rng = np.random.default_rng(0)
    honest = rng.normal(0, 2, 40_000)
    truth = _answers(honest, rng)
    assert abs(calibrate._temperature(2 * honest, truth) - 2) < 0.15
    sure = 1 / (1 + np.exp(-2 * honest))
    fair = 1 / (1 + np.exp(-honest))
    assert calibrate.calibration_error(fair, truth) < 0.01
    assert calibrate.calibration_error(sure, truth) > 0.03


def test_logistic_model_is_found():
    rng = np.random.default_rng(1)
    x = rng.normal(0, 1, (20_000, 2))
    truth = _answers(0.5 + x @ np.array([1.5, -0.7]), rng)
    np.testing.assert_allclose(calibrate.fit_logistic(x, truth), [0.5, 1.5, -0.7], atol=0.1)


def test_operating_points_count_lesions_once():
    found = [
        Found(3.0, 0.0, True, 0, frozenset({1})),
        Found(1.0, 0.0, True, 0, frozenset({1})),
        Found(0.0, 0.0, False, 1, frozenset()),
    ]
    points = calibrate.operating_points(found, np.array([0.95, 0.7, 0.3]), 2, 2)
    low, high = points[0], points[-1]
    assert low["sensitivity"] == high["sensitivity"] == 0.5
    assert low["false_per_scan"] == 0.5
    assert high["false_per_scan"] == 0
    assert calibrate._floor(points) == 0.4


@pytest.mark.slow
def test_the_whole_engine_is_calibrated(tmp_path):
    network = build("tiny")
    path = tmp_path / "w.safetensors"
    notes = weights.WeightsNotes(spacing_mm=5.0)
    weights.save(path, network.config, network.state_dict(), notes)
    config = DrawConfig(shape=(36, 44, 36), spacing_mm=(5.0, 5.0))
    result = calibrate.calibrate(path, config, 2, "cpu")
    assert len(result.temperature) == 3
    assert 0 <= result.error[1] <= result.error[0] + 0.05
