"""Fit temperatures, the score of a candidate and its operating points on drawn patients.

The whole engine runs, as it will on real scans, on patients whose seeds no step has seen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.grid import Grid
from lesionlens.base.labels import REFERENCE_ORDER, MrSequence, Region
from lesionlens.base.stages import NEVER, no_progress
from lesionlens.explain import relevance
from lesionlens.findings.components import Marked, mark, parts_of
from lesionlens.inference.calibration import TOP_SHARE
from lesionlens.inference.engines.own import LensEngine
from lesionlens.records.prediction import Prediction
from lesionlens.records.study import PreparedStudy
from lesionlens.synth.draw import DrawConfig, Drawn, draw
from lesionlens.training.config import DataConfig
from lesionlens.training.data import VALIDATION_SEED, roll_presence

Floats = NDArray[np.float64]
FIRST_SEED = VALIDATION_SEED + 500_000_000
_EDGE = 1e-6
_VOXELS = 6000
"""Voxels taken from each patient for the temperatures."""
_TRUE_SHARE = 0.1
"""Share of a found component that must be tumour for it to count as found rightly."""
_MOST_FALSE = 0.3
"""False candidates a scan at the default operating point."""
_LEVELS = (0.02, 0.05, *(round(0.1 * n, 1) for n in range(1, 10)), 0.95)


@dataclass(frozen=True, slots=True)
class Found:
    """One candidate on a drawn patient."""

    logit: float
    """Mean logit of its surest voxels in the glance, before any temperature."""
    log_ml: float
    right: bool
    patient: int
    lesions: frozenset[int]
    """Indices of the true lesions that it touches."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What is fitted."""

    temperature: tuple[float, float, float]
    score: tuple[float, float, float]
    score_floor: float
    operating_points: tuple[Mapping[str, float], ...]
    error: tuple[float, float]
    """Expected calibration error of whole-tumour probability, before and after."""


def _grid(shape: Sequence[int], spacing: float) -> Grid:
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = [-(n - 1) / 2 * spacing for n in shape]
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


def prepared_of(drawn: Drawn, present: NDArray[np.bool_]) -> PreparedStudy:
    """Make a prepared study of the first drawn patient, on the grid it was drawn on."""
    channels = drawn.channels[0].cpu().numpy() * present[:, None, None, None]
    brain = drawn.brain[0].cpu().numpy()
    grid = _grid(brain.shape, float(drawn.spacing_mm[0]))
    order = tuple(MrSequence)
    reference = next(s for s in REFERENCE_ORDER if present[order.index(s)])
    return PreparedStudy(
        channels=channels.astype(np.float32),
        present=present,
        brain=brain,
        working=grid,
        native=grid,
        to_native=np.eye(4),
        reference=reference,
    )


def _logit(probability: NDArray[np.floating]) -> Floats:
    p = np.clip(probability.astype(np.float64), _EDGE, 1 - _EDGE)
    return np.asarray(np.log(p / (1 - p)))


def _truth(drawn: Drawn, grid: Grid) -> Marked:
    labels = drawn.labels[0].cpu().numpy().astype(np.float32)
    return mark(dict(zip(Region, labels, strict=True)), grid)


def _candidates(prediction: Prediction, truth: Marked, grid: Grid, patient: int) -> list[Found]:
    if prediction.glance is None or prediction.probability is None:
        return []
    marked = mark({region: prediction.probability[region] for region in Region}, grid)
    flat = prediction.glance.probability[0].reshape(-1)
    out = []
    for part in parts_of(marked):
        seen = _logit(flat[relevance.voxels_on(part.points_mm(), prediction.glance.grid)])
        count = max(1, int(np.ceil(TOP_SHARE * seen.size)))
        inside = truth.components[part.box][part.mask]
        out.append(
            Found(
                logit=float(np.partition(seen, -count)[-count:].mean()),
                log_ml=float(np.log(max(part.volume_ml, 1e-3))),
                right=bool((inside > 0).mean() >= _TRUE_SHARE),
                patient=patient,
                lesions=frozenset(int(n) for n in np.unique(inside) if n),
            )
        )
    return out


def _temperature(logits: Floats, truth: NDArray[np.bool_]) -> float:
    """Temperature with the least cross-entropy (Guo et al. 2017, section 4.2)."""
    grid = np.exp(np.linspace(np.log(0.4), np.log(4.0), 81))
    sign = np.where(truth, -1.0, 1.0)
    cost = [np.logaddexp(0, sign * logits / t).mean() for t in grid]
    return round(float(grid[int(np.argmin(cost))]), 4)


def calibration_error(probability: Floats, truth: NDArray[np.bool_], bins: int = 15) -> float:
    """Measure the expected calibration error over equal bins (Guo et al. 2017, equation 3)."""
    index = np.minimum((probability * bins).astype(int), bins - 1)
    error = 0.0
    for one in range(bins):
        chosen = index == one
        if chosen.any():
            error += abs(probability[chosen].mean() - truth[chosen].mean()) * chosen.mean()
    return float(error)


def fit_logistic(features: Floats, right: NDArray[np.bool_], ridge: float = 1.0) -> Floats:
    """Fit a logistic model by Newton's method.

    Parameters
    ----------
    features : (N, F) float64
    right : (N,) bool
    ridge : float
        Penalty on the slopes, not on the intercept.

    Returns
    -------
    (1 + F,) float64
        Intercept and slopes.
    """
    x = np.column_stack([np.ones(len(features)), features])
    penalty = np.diag([1e-6, *[ridge] * features.shape[1]])
    weights = np.zeros(x.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-x @ weights))
        slope = x.T @ (p - right) + penalty @ weights
        curve = (x * (p * (1 - p))[:, None]).T @ x + penalty
        weights = weights - np.linalg.solve(curve, slope)
    return np.asarray(weights)


def operating_points(
    found: Sequence[Found], scores: Floats, lesions: int, patients: int
) -> tuple[Mapping[str, float], ...]:
    """Sensitivity and false candidates a scan at each score, rising in score."""
    points = []
    for level in _LEVELS:
        kept = [f for f, s in zip(found, scores, strict=True) if s >= level]
        hit = {(f.patient, n) for f in kept for n in f.lesions}
        false = sum(not f.right for f in kept)
        points.append({
            "threshold": level,
            "sensitivity": round(len(hit) / max(1, lesions), 4),
            "false_per_scan": round(false / max(1, patients), 4),
        })  # fmt: skip
    return tuple(points)


def _floor(points: Sequence[Mapping[str, float]]) -> float:
    """Lowest score at which false candidates are rare enough."""
    for point in points:
        if point["false_per_scan"] <= _MOST_FALSE:
            return point["threshold"]
    return points[-1]["threshold"]


def calibrate(weights: Path, config: DrawConfig, patients: int, device: str) -> Calibration:
    """Run the engine over drawn patients and fit.

    Parameters
    ----------
    weights : Path
        With temperatures of one.
    config : DrawConfig
        Whose spacing is the working grid.
    patients : int
    device : str
    """
    engine, rng = LensEngine(device, weights), np.random.default_rng(5)
    varied = dataclasses.replace(config, tumour_free=0.3)
    found: list[Found] = []
    voxels: list[Floats] = []
    answers: list[NDArray[np.bool_]] = []
    lesions = 0
    for patient in range(patients):
        drawn = draw(varied, [FIRST_SEED + patient], device)
        study = prepared_of(drawn, roll_presence(rng, DataConfig()))
        prediction = engine.predict(study, progress=no_progress, cancel=NEVER)
        truth = _truth(drawn, study.native)
        lesions += truth.count
        found += _candidates(prediction, truth, study.native, patient)
        inside = rng.choice(np.flatnonzero(study.brain), _VOXELS)
        known = prediction.probability or {}
        voxels.append(_logit(np.stack([known[region].reshape(-1)[inside] for region in Region])))
        answers.append(drawn.labels[0].cpu().numpy().reshape(3, -1)[:, inside] > 0)
    logits, marks = np.concatenate(voxels, 1), np.concatenate(answers, 1)
    heat = tuple(_temperature(a, b) for a, b in zip(logits, marks, strict=True))
    before, after = (
        calibration_error(1 / (1 + np.exp(-logits[0] / t)), marks[0]) for t in (1.0, heat[0])
    )
    features = np.array([[f.logit / heat[0], f.log_ml] for f in found]).reshape(-1, 2)
    right = np.array([f.right for f in found], dtype=bool)
    model = fit_logistic(features, right)
    scores = 1 / (1 + np.exp(-(model[0] + features @ model[1:])))
    points = operating_points(found, scores, lesions, patients)
    return Calibration(
        temperature=(heat[0], heat[1], heat[2]),
        score=(round(model[0], 4), round(model[1], 4), round(model[2], 4)),
        score_floor=_floor(points),
        operating_points=points,
        error=(round(before, 4), round(after, 4)),
    )
