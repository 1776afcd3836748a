"""Fit temperatures, the score of a candidate and its operating points on synthetic patients.

The whole engine runs, as on real scans, on patients with seeds not used in training. The results of
each patient are stored in a file, so that an interrupted fit resumes, and one with more patients
only examines the new ones.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import multiprocessing as processes

from lesionlens.analysis.evaluation.metrics import BINS, Bins, reliability
from lesionlens.analysis.findings.component_scores import component_score
from lesionlens.analysis.findings.components import (
    CandidateCriteria,
    ComponentMask,
    segment_components,
)
from lesionlens.base.grid import Grid
from lesionlens.base.labels import REFERENCE_ORDER, MrSequence, Region
from lesionlens.base.numerics import logit as clipped_logit
from lesionlens.base.process import end_with_parent
from lesionlens.base.records.prediction import Prediction, Scoring
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.engines.lens import LensEngine
from training.lens import scoring
from training.lens.scoring import ScoredCandidate
from training.lens.volumes import FIRST_VALIDATION_SEED, Presence, sample_presence
from training.synth.generator import GeneratorConfig, SyntheticBatch, draw

Floats = NDArray[np.float64]
Voxels = tuple[Floats, NDArray[np.bool_]]
"""(3, n) logits of WT, TC and ET, and whether they are there."""
FIRST_SEED = FIRST_VALIDATION_SEED + 500_000_000
"""Of the patients for scores; those for temperatures are `_TEMPERATURE_SEED_OFFSET` further."""
FIRST_REAL, REAL_APART = 1_000_000, 1000
"""Number of the first real patient that scores are fitted on, and the step between the numbers of
one patient's scans: a multiple of four, so that all scans of a patient are in one half."""
TEMPERATURE_PATIENTS = 24
"""Patients that temperatures are fitted on."""
_TEMPERATURE_SEED_OFFSET = 100_000_000
_EDGE = 1e-6
VOXELS = 6000
"""Voxels taken from each patient for temperatures and the reliability of probabilities."""
_MIN_TUMOUR_FRACTION = 0.1  # of a component, from which it is a correct candidate
_TUMOUR_FREE = 0.3


@dataclass(frozen=True, slots=True)
class CalibrationJob:
    """The weights to calibrate, and the synthetic patients."""

    weights: Path
    """With temperatures of one to fit temperatures, with the fitted ones to fit scores."""
    draw: GeneratorConfig
    """Its spacing is the working grid."""
    device: str = "cpu"
    """As `engines.device.choose` reads it."""


@dataclass(frozen=True, slots=True)
class CalibrationEffort:
    """Number of patients, workers and minutes."""

    patients: int
    """Synthetic patients."""
    workers: int = 1
    """Processes of one thread each; 1 for this process."""
    minutes: float = float("inf")
    """No further patient after this long."""


@dataclass(frozen=True, slots=True, eq=False)
class ExaminedScan:
    """The candidates of one scan, and the reliability of its probabilities."""

    patient: int
    """Number from 0, added to `FIRST_SEED` for the seed."""
    lesions: int
    """Number of true lesions."""
    found: tuple[ScoredCandidate, ...]
    """All candidates, whatever their score."""
    voxels: Bins
    """Reliability of the whole-tumour probability in the brain."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """The fitted score of candidates, and its cross-validation."""

    score: tuple[float, float, float]
    score_floor: float
    operating_points: tuple[Mapping[str, float], ...]
    patients: int
    real: int
    lesions: int
    candidates: int
    cross_validation: scoring.CrossValidation
    voxel_error: float
    """Expected calibration error of whole-tumour probability, with the fitted temperatures."""


def _grid(shape: Sequence[int], spacing: float) -> Grid:
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = [-(n - 1) / 2 * spacing for n in shape]
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


def prepared_of(batch: SyntheticBatch, present: NDArray[np.bool_]) -> PreparedStudy:
    """Return the first synthetic patient of a batch as a prepared study, on its own grid."""
    channels = batch.channels[0].cpu().numpy() * present[:, None, None, None]
    brain = batch.brain[0].cpu().numpy()
    grid = _grid(brain.shape, float(batch.spacing_mm[0]))
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


def logit(probability: NDArray[np.floating]) -> Floats:
    """Return log-odds, as float64, of probabilities clipped away from 0 and 1."""
    return np.asarray(clipped_logit(probability.astype(np.float64), _EDGE))


def _reference_lesions(batch: SyntheticBatch, grid: Grid) -> ComponentMask:
    labels = batch.labels[0].cpu().numpy().astype(np.float32)
    return segment_components(dict(zip(Region, labels, strict=True)), grid)


def candidates_of(
    prediction: Prediction,
    probabilities: Mapping[Region, NDArray[np.float32]],
    reference: ComponentMask,
    grid: Grid,
    patient: int,
) -> tuple[ScoredCandidate, ...]:
    """Return the candidates with the features of their scores, as computed by the engine `lens`.

    Parameters
    ----------
    prediction : Prediction
    known : mapping of Region to (I, J, K) float32
        The prediction's probability on `grid`.
    reference : ComponentMask
        The true lesions, on `grid`.
    grid : Grid
    patient : int
        The patient's number.
    """
    if prediction.unperturbed is None:
        return ()
    marked = segment_components(probabilities, grid, CandidateCriteria(prediction.thresholds))
    flat = prediction.unperturbed.probability[0].reshape(-1)
    out = []
    for part in marked.parts():
        values = flat[prediction.unperturbed.grid.flat_voxels(part.points_mm())]
        mean_probability = component_score(values, part.volume_ml, Scoring())
        inside = reference.components[part.box][part.mask]
        out.append(
            ScoredCandidate(
                logit=round(float(logit(mean_probability)), 5),
                log_ml=round(float(np.log(max(part.volume_ml, 1e-3))), 5),
                correct=bool((inside > 0).mean() >= _MIN_TUMOUR_FRACTION),
                patient=patient,
                lesions=frozenset(int(n) for n in np.unique(inside) if n),
            )
        )
    return tuple(out)


class _PatientExaminer:
    """The engine and the synthetic patients of a job; one per process."""

    def __init__(self, job: CalibrationJob) -> None:
        self.job = job
        self.engine = LensEngine(job.device, job.weights)
        self.config = dataclasses.replace(job.draw, tumour_free=_TUMOUR_FREE)

    def _predict(
        self, seed: int
    ) -> tuple[SyntheticBatch, PreparedStudy, Prediction, NDArray[np.intp], np.random.Generator]:
        """Generate a patient and predict; also return some voxels of the brain."""
        rng = np.random.default_rng(seed)
        batch = draw(self.config, [seed], self.job.device)
        study = prepared_of(batch, sample_presence(rng, Presence()))
        prediction = self.engine.predict(study, context=SILENT)
        inside = rng.choice(np.flatnonzero(study.brain), VOXELS)
        return batch, study, prediction, inside, rng

    def voxels(self, patient: int) -> Voxels:
        """Return (3, n) logits of some voxels of a patient, and whether they are tumour."""
        batch, _, prediction, inside, _ = self._predict(
            FIRST_SEED + _TEMPERATURE_SEED_OFFSET + patient
        )
        probabilities = prediction.probability or {}
        logits = logit(np.stack([probabilities[region].reshape(-1)[inside] for region in Region]))
        return logits, batch.labels[0].cpu().numpy().reshape(3, -1)[:, inside] > 0

    def candidates(self, patient: int) -> ExaminedScan:
        """Return the candidates and reliability of a patient."""
        batch, study, prediction, inside, _ = self._predict(FIRST_SEED + patient)
        reference = _reference_lesions(batch, study.native)
        probabilities = prediction.probability or {}
        probability = probabilities[Region.WT].reshape(-1)[inside]
        true = batch.labels[0, 0].cpu().numpy().reshape(-1)[inside] > 0
        found = candidates_of(prediction, probabilities, reference, study.native, patient)
        return ExaminedScan(patient, reference.count, found, reliability(probability, true))


_EXAMINERS: dict[CalibrationJob, _PatientExaminer] = {}  # of this process


def _examiner(job: CalibrationJob) -> _PatientExaminer:
    if job not in _EXAMINERS:
        _EXAMINERS.clear()
        _EXAMINERS[job] = _PatientExaminer(job)
    return _EXAMINERS[job]


def _voxels(job: CalibrationJob, patient: int) -> Voxels:
    return _examiner(job).voxels(patient)


def _examined(job: CalibrationJob, patient: int) -> ExaminedScan:
    return _examiner(job).candidates(patient)


@contextmanager
def _worker_map(workers: int) -> Iterator[Any]:
    """Yield a function like `map`, over worker processes if there are several."""
    if workers < 2:
        yield map
        return
    context = processes.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start_worker) as pool:
        yield pool.map


def _start_worker() -> None:
    end_with_parent()
    torch.set_num_threads(1)


def _temperature(logits: Floats, reference: NDArray[np.bool_]) -> float:
    """Return the temperature with the least cross-entropy (Guo et al. 2017, section 4.2)."""
    grid = np.exp(np.linspace(np.log(0.4), np.log(4.0), 81))
    sign = np.where(reference, -1.0, 1.0)
    cost = [np.logaddexp(0, sign * logits / t).mean() for t in grid]
    return round(float(grid[int(np.argmin(cost))]), 4)


def fit_temperatures(
    job: CalibrationJob, effort: CalibrationEffort, others: Sequence[Voxels] = ()
) -> tuple[float, float, float]:
    """Fit the temperatures of WT, TC and ET on voxels of synthetic patients and of `others`."""
    with _worker_map(effort.workers) as each:
        pairs = list(each(_voxels, [job] * effort.patients, range(effort.patients)))
    pairs += others
    logits = np.concatenate([logits for logits, _ in pairs], 1)
    reference = np.concatenate([reference for _, reference in pairs], 1)
    whole, core, enhancing = (_temperature(a, b) for a, b in zip(logits, reference, strict=True))
    return whole, core, enhancing


def examine(
    job: CalibrationJob,
    effort: CalibrationEffort,
    cache: Path | None = None,
    context: RunContext = SILENT,
) -> list[ExaminedScan]:
    """Examine synthetic patients, except those that the cache contains.

    Parameters
    ----------
    job : CalibrationJob
    effort : CalibrationEffort
    cache : Path or None
        File with a line for each examined patient of this job; new ones are appended.
    context : RunContext
        Progress after each few patients.
    """
    examined = {scan.patient: scan for scan in read_scans(cache)}
    missing = [n for n in range(effort.patients) if n not in examined]
    started, chunk = time.monotonic(), 4 * effort.workers
    with _worker_map(effort.workers) as each:
        for first in range(0, len(missing), chunk):
            if time.monotonic() - started > 60 * effort.minutes:
                break
            some = missing[first : first + chunk]
            new = list(each(_examined, [job] * len(some), some))
            examined |= {scan.patient: scan for scan in new}
            append_scans(cache, new)
            context.progress("examining synthetic patients", len(examined) / effort.patients)
    return [examined[n] for n in sorted(examined) if n < effort.patients]


def append_scans(cache: Path | None, new: Sequence[ExaminedScan]) -> None:
    """Append a line for each scan to the cache."""
    if cache is None:
        return
    with cache.open("a", encoding="utf-8") as stream:
        stream.writelines("\n" + json.dumps(_row(scan)) for scan in new)


def _row(scan: ExaminedScan) -> dict[str, Any]:
    return {
        "patient": scan.patient,
        "lesions": scan.lesions,
        "found": [[f.logit, f.log_ml, f.correct, sorted(f.lesions)] for f in scan.found],
        "voxels": [
            [round(float(v), 4) for v in column]
            for column in (scan.voxels.count, scan.voxels.confidence, scan.voxels.positive)
        ],
    }


def read_scans(cache: Path | None) -> Iterator[ExaminedScan]:
    """Yield the scans in the cache; an incomplete last line is skipped."""
    if cache is None or not cache.is_file():
        return
    for line in cache.read_text("utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        patient = int(row["patient"])
        found = tuple(
            ScoredCandidate(logit, log_ml, correct, patient, frozenset(lesions))
            for logit, log_ml, correct, lesions in row["found"]
        )
        voxels = Bins(*(np.array(column, float).reshape(BINS) for column in row["voxels"]))
        yield ExaminedScan(patient, int(row["lesions"]), found, voxels)


def calibrate(scans: Sequence[ExaminedScan], max_false: float = scoring.MAX_FALSE) -> Calibration:
    """Fit the score on all patients, and cross-validate such a fit by patient.

    Parameters
    ----------
    scans : sequence of ExaminedScan
    max_false : float
        False candidates per scan at the default threshold.

    Raises
    ------
    UnusableInputError
        There are too few candidates to fit on.
    """
    found = [candidate for scan in scans for candidate in scan.found]
    lesions = sum(scan.lesions for scan in scans)
    score = np.round(scoring.fit_score(found), 4)
    points = scoring.operating_points(found, scoring.scores_of(found, score), lesions, len(scans))
    return Calibration(
        score=(float(score[0]), float(score[1]), float(score[2])),
        score_floor=scoring.floor_of(points, max_false),
        operating_points=points,
        patients=len(scans),
        real=len({scan.patient % REAL_APART for scan in scans if scan.patient >= FIRST_REAL}),
        lesions=lesions,
        candidates=len(found),
        cross_validation=scoring.cross_validate_halves(found),
        voxel_error=round(sum((scan.voxels for scan in scans), Bins()).error, 4),
    )
