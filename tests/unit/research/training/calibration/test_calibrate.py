"""Calibration recovers known parameters, and resumes where it stopped."""

import json

import numpy as np
import pytest
from research.training.calibration import calibrate
from research.training.calibration.calibrate import CalibrationEffort, CalibrationJob, ExaminedScan
from research.training.calibration.scoring import ScoredCandidate

from lesionlens.analysis.evaluation.metrics import reliability
from lesionlens.network import weights
from lesionlens.network.synth.generator import GeneratorConfig
from lesionlens.network.weights_metadata import WeightsNotes

COARSE = GeneratorConfig(shape=(44, 54, 44), spacing_mm=(4.0, 4.0))


def test_temperature_of_overconfident_logits_is_found():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, 40_000)
    reference = rng.random(logits.shape) < 1 / (1 + np.exp(-logits))
    assert abs(calibrate._temperature(2 * logits, reference) - 2) < 0.15


def _examined(patient, rng):
    """A scan with two candidates whose logits are calibrated."""
    logits = rng.normal(0, 2, 2)
    found = tuple(
        ScoredCandidate(
            round(x, 3), 0.5, bool(rng.random() < 1 / (1 + np.exp(-x))), patient, frozenset({n})
        )
        for n, x in enumerate(logits, 1)
    )
    reported = rng.random(50)
    return ExaminedScan(patient, 2, found, reliability(reported, rng.random(50) < reported))


@pytest.fixture
def examined_patients(monkeypatch):
    rng, patients = np.random.default_rng(3), []

    def examine_one(job, patient):
        patients.append(patient)
        return _examined(patient, rng)

    monkeypatch.setattr(calibrate, "_examined", examine_one)
    return patients


def test_an_examination_resumes_where_it_stopped(examined_patients, tmp_path):
    cache, job = tmp_path / "patients.jsonl", CalibrationJob(tmp_path / "none", COARSE)
    first = calibrate.examine(job, CalibrationEffort(5), cache)
    with cache.open("a") as stream:
        stream.write('\n{"patient": 5, "les')
    second = calibrate.examine(job, CalibrationEffort(8), cache)
    assert examined_patients == [0, 1, 2, 3, 4, 5, 6, 7]
    third = calibrate.examine(job, CalibrationEffort(8), cache)
    assert examined_patients[8:] == []
    assert [s.patient for s in third] == list(range(8))
    assert [s.found for s in third] == [s.found for s in second]
    assert [s.found for s in third[:5]] == [s.found for s in first]
    for one, other in zip(third, second, strict=True):
        np.testing.assert_allclose(one.voxels.confidence, other.voxels.confidence, atol=1e-3)


def test_an_examination_ends_after_the_minutes(examined_patients, tmp_path):
    job = CalibrationJob(tmp_path / "none", COARSE)
    assert len(calibrate.examine(job, CalibrationEffort(50, minutes=0.0))) == 0
    assert examined_patients == []


def test_a_fit_reports_its_patients_and_candidates(examined_patients, tmp_path):
    scans = calibrate.examine(CalibrationJob(tmp_path / "none", COARSE), CalibrationEffort(300))
    result = calibrate.calibrate(scans)
    assert (result.patients, result.lesions, result.candidates) == (300, 600, 600)
    assert result.score[1] == pytest.approx(1, abs=0.25)
    assert sum(b["count"] for b in result.cross_validation.bins) == 600
    assert result.cross_validation.error < 0.1
    json.dumps(result.operating_points)


@pytest.mark.slow
def test_the_shipped_engine_is_calibrated(tmp_path):
    network, info = weights.load_shipped()
    notes = WeightsNotes(spacing_mm=4.0)
    path = tmp_path / "w.safetensors"
    weights.save(path, info.config, network.state_dict(), notes)
    job = CalibrationJob(path, COARSE)
    assert all(0.4 <= t <= 4 for t in calibrate.fit_temperatures(job, CalibrationEffort(2)))
    one = calibrate.examine(job, CalibrationEffort(3, workers=1))
    two = calibrate.examine(job, CalibrationEffort(3, workers=2))
    assert [s.lesions for s in one] == [s.lesions for s in two]
    for a, b in zip(one, two, strict=True):
        assert [f.lesions for f in a.found] == [f.lesions for f in b.found]
