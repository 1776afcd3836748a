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
from lesionlens.analysis.findings.components import (
    CandidateCriteria,
    ComponentMask,
    components_of,
    segment_components,
)
from lesionlens.base import array_ops
from lesionlens.base.grid import Grid
from lesionlens.base.labels import REFERENCE_ORDER, MrSequence, Region
from lesionlens.base.process.worker_processes import end_with_parent
from lesionlens.base.records.prediction import Prediction, Scoring
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.engines.component_score import component_score
from lesionlens.engines.lens.engine import LensEngine
from lesionlens.network.synth.generator import GeneratorConfig, SyntheticBatch, draw
from lesionlens.training.config import DataConfig
from lesionlens.training.data import FIRST_VALIDATION_SEED, sample_presence
from research.training.calibration import scoring
from research.training.calibration.scoring import Found

Floats = NDArray[np.float64]
Voxels = tuple[Floats, NDArray[np.bool_]]
"""(3, n) logits of WT, TC and ET, and whether they are there."""
FIRST_SEED = FIRST_VALIDATION_SEED + 500_000_000
"""Of the patients that scores are fitted on; temperatures take those `_APART` further."""
FIRST_REAL, REAL_APART = 1_000_000, 1000
"""Number of the first real patient among those that scores are fitted on, and between the numbers
of one patient's scans; a multiple of four, so that the halves of a trial part people."""
WARM_UP = 24
"""Patients that temperatures are fitted on."""
_APART = 100_000_000
_EDGE = 1e-6
VOXELS = 6000
"""Voxels taken from each patient for temperatures and the reliability of probabilities."""
_TRUE_SHARE = 0.1  # share of a found component that must be tumour for it to count as found rightly
_TUMOUR_FREE = 0.3


@dataclass(frozen=True, slots=True)
class CalibrationScan:
    """Whose probabilities are fitted, on what."""

    weights: Path
    """For temperatures, with temperatures of one; for scores, with the fitted ones."""
    draw: GeneratorConfig
    """Its spacing is the working grid."""
    device: str = "cpu"
    """As `engines.device.choose` reads it."""


@dataclass(frozen=True, slots=True)
class CalibrationEffort:
    """How much is examined."""

    patients: int
    """Synthetic patients."""
    workers: int = 1
    """Processes of one thread each; 1 stays in this one."""
    minutes: float = float("inf")
    """No further patient after this long."""


@dataclass(frozen=True, slots=True, eq=False)
class ExaminedScan:
    """What one patient showed."""

    patient: int
    """From 0; the seed is `FIRST_SEED` further."""
    lesions: int
    """True ones."""
    found: tuple[Found, ...]
    """The candidates, before any is left out for its score."""
    voxels: Bins
    """Whole-tumour probability in the brain against the truth."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What is fitted on candidates, and how it fares on patients that it was not fitted on."""

    score: tuple[float, float, float]
    score_floor: float
    operating_points: tuple[Mapping[str, float], ...]
    patients: int
    real: int
    lesions: int
    candidates: int
    trial: scoring.CrossValidation
    voxel_error: float
    """Expected calibration error of whole-tumour probability, the temperatures in place."""


def _grid(shape: Sequence[int], spacing: float) -> Grid:
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = [-(n - 1) / 2 * spacing for n in shape]
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


def prepared_of(drawn: SyntheticBatch, present: NDArray[np.bool_]) -> PreparedStudy:
    """Make a prepared study of the first synthetic patient, on the grid it was drawn on."""
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


def logit(probability: NDArray[np.floating]) -> Floats:
    """Return log-odds, as float64, of probabilities that are kept off 0 and 1."""
    return np.asarray(array_ops.logit(probability.astype(np.float64), _EDGE))


def _truth(drawn: SyntheticBatch, grid: Grid) -> ComponentMask:
    labels = drawn.labels[0].cpu().numpy().astype(np.float32)
    return segment_components(dict(zip(Region, labels, strict=True)), grid)


def candidates_of(
    prediction: Prediction,
    known: Mapping[Region, NDArray[np.float32]],
    truth: ComponentMask,
    grid: Grid,
    patient: int,
) -> tuple[Found, ...]:
    """Return the candidates with what their scores are taken from, as `lens` takes them.

    Parameters
    ----------
    prediction : Prediction
    known : mapping of Region to (I, J, K) float32
        Its probability on `grid`, where `truth` lies too.
    truth, grid, patient
        The true lesions, the grid, and whose candidates they are.
    """
    if prediction.unperturbed is None:
        return ()
    marked = segment_components(known, grid, CandidateCriteria(prediction.thresholds))
    flat = prediction.unperturbed.probability[0].reshape(-1)
    out = []
    for part in components_of(marked):
        seen = flat[prediction.unperturbed.grid.flat_voxels(part.points_mm())]
        surest = component_score(seen, part.volume_ml, Scoring())
        inside = truth.components[part.box][part.mask]
        out.append(
            Found(
                logit=round(float(logit(surest)), 5),
                log_ml=round(float(np.log(max(part.volume_ml, 1e-3))), 5),
                right=bool((inside > 0).mean() >= _TRUE_SHARE),
                patient=patient,
                lesions=frozenset(int(n) for n in np.unique(inside) if n),
            )
        )
    return tuple(out)


class _Looker:
    """An engine, and patients to show it; one a process."""

    def __init__(self, job: CalibrationScan) -> None:
        self.job = job
        self.engine = LensEngine(job.device, job.weights)
        self.config = dataclasses.replace(job.draw, tumour_free=_TUMOUR_FREE)

    def _show(
        self, seed: int
    ) -> tuple[SyntheticBatch, PreparedStudy, Prediction, NDArray[np.intp], np.random.Generator]:
        """Draw a patient and predict; also some voxels of the brain."""
        rng = np.random.default_rng(seed)
        drawn = draw(self.config, [seed], self.job.device)
        study = prepared_of(drawn, sample_presence(rng, DataConfig()))
        prediction = self.engine.predict(study, context=SILENT)
        inside = rng.choice(np.flatnonzero(study.brain), VOXELS)
        return drawn, study, prediction, inside, rng

    def voxels(self, patient: int) -> Voxels:
        """Return (3, n) logits of some voxels of a patient, and whether they are tumour."""
        drawn, _, prediction, inside, _ = self._show(FIRST_SEED + _APART + patient)
        known = prediction.probability or {}
        logits = logit(np.stack([known[region].reshape(-1)[inside] for region in Region]))
        return logits, drawn.labels[0].cpu().numpy().reshape(3, -1)[:, inside] > 0

    def candidates(self, patient: int) -> ExaminedScan:
        """Return what a patient shows."""
        drawn, study, prediction, inside, _ = self._show(FIRST_SEED + patient)
        truth = _truth(drawn, study.native)
        known = prediction.probability or {}
        probability = known[Region.WT].reshape(-1)[inside]
        true = drawn.labels[0, 0].cpu().numpy().reshape(-1)[inside] > 0
        found = candidates_of(prediction, known, truth, study.native, patient)
        return ExaminedScan(patient, truth.count, found, reliability(probability, true))


_LOOKERS: dict[CalibrationScan, _Looker] = {}  # the engine of a worker process


def _looker(job: CalibrationScan) -> _Looker:
    if job not in _LOOKERS:
        _LOOKERS.clear()
        _LOOKERS[job] = _Looker(job)
    return _LOOKERS[job]


def _voxels(job: CalibrationScan, patient: int) -> Voxels:
    return _looker(job).voxels(patient)


def _examined(job: CalibrationScan, patient: int) -> ExaminedScan:
    return _looker(job).candidates(patient)


@contextmanager
def _crew(workers: int) -> Iterator[Any]:
    """Give a function like `map`, over processes where more than one is wanted."""
    if workers < 2:
        yield map
        return
    context = processes.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _begin) as pool:
        yield pool.map


def _begin() -> None:
    end_with_parent()
    torch.set_num_threads(1)


def _temperature(logits: Floats, truth: NDArray[np.bool_]) -> float:
    """Temperature with the least cross-entropy (Guo et al. 2017, section 4.2)."""
    grid = np.exp(np.linspace(np.log(0.4), np.log(4.0), 81))
    sign = np.where(truth, -1.0, 1.0)
    cost = [np.logaddexp(0, sign * logits / t).mean() for t in grid]
    return round(float(grid[int(np.argmin(cost))]), 4)


def fit_temperatures(
    job: CalibrationScan, effort: CalibrationEffort, others: Sequence[Voxels] = ()
) -> tuple[float, float, float]:
    """Fit a temperature for WT, TC and ET on voxels of synthetic patients, and of `others`."""
    with _crew(effort.workers) as each:
        pairs = list(each(_voxels, [job] * effort.patients, range(effort.patients)))
    pairs += others
    logits = np.concatenate([logits for logits, _ in pairs], 1)
    truth = np.concatenate([truth for _, truth in pairs], 1)
    whole, core, enhancing = (_temperature(a, b) for a, b in zip(logits, truth, strict=True))
    return whole, core, enhancing


def examine(
    job: CalibrationScan,
    effort: CalibrationEffort,
    kept: Path | None = None,
    context: RunContext = SILENT,
) -> list[ExaminedScan]:
    """Examine synthetic patients; those in `kept`, a file of lines, were examined before.

    Parameters
    ----------
    job, effort
        Whose file it is the caller knows: one for each job.
    kept : Path or None
        Gets a line a patient.
    context : RunContext
        Progress after each few patients.
    """
    known = {seen.patient: seen for seen in read_kept(kept)}
    missing = [n for n in range(effort.patients) if n not in known]
    begun, chunk = time.monotonic(), 4 * effort.workers
    with _crew(effort.workers) as each:
        for first in range(0, len(missing), chunk):
            if time.monotonic() - begun > 60 * effort.minutes:
                break
            some = missing[first : first + chunk]
            new = list(each(_examined, [job] * len(some), some))
            known |= {seen.patient: seen for seen in new}
            keep(kept, new)
            context.progress("looking at synthetic patients", len(known) / effort.patients)
    return [known[n] for n in sorted(known) if n < effort.patients]


def keep(kept: Path | None, new: Sequence[ExaminedScan]) -> None:
    """Add a line a patient to a file of what was seen."""
    if kept is None:
        return
    with kept.open("a", encoding="utf-8") as stream:
        stream.writelines("\n" + json.dumps(_row(seen)) for seen in new)


def _row(seen: ExaminedScan) -> dict[str, Any]:
    return {
        "patient": seen.patient,
        "lesions": seen.lesions,
        "found": [[f.logit, f.log_ml, f.right, sorted(f.lesions)] for f in seen.found],
        "voxels": [
            [round(float(v), 4) for v in column]
            for column in (seen.voxels.count, seen.voxels.confidence, seen.voxels.positive)
        ],
    }


def read_kept(kept: Path | None) -> Iterator[ExaminedScan]:
    """Yield what earlier runs kept; a last line that was cut off is examined again."""
    if kept is None or not kept.is_file():
        return
    for line in kept.read_text("utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        patient = int(row["patient"])
        found = tuple(
            Found(logit, log_ml, right, patient, frozenset(lesions))
            for logit, log_ml, right, lesions in row["found"]
        )
        voxels = Bins(*(np.array(column, float).reshape(BINS) for column in row["voxels"]))
        yield ExaminedScan(patient, int(row["lesions"]), found, voxels)


def calibrate(seen: Sequence[ExaminedScan], most_false: float = scoring.MAX_FALSE) -> Calibration:
    """Fit the score on all patients, and test such a fit on patients that it has not seen.

    Parameters
    ----------
    seen : sequence of ExaminedScan
    most_false : float
        False candidates a scan at the default threshold.

    Raises
    ------
    UnusableInputError
        There are too few candidates to fit on.
    """
    found = [candidate for one in seen for candidate in one.found]
    lesions = sum(one.lesions for one in seen)
    score = np.round(scoring.fit_score(found), 4)
    points = scoring.operating_points(found, scoring.scores_of(found, score), lesions, len(seen))
    return Calibration(
        score=(float(score[0]), float(score[1]), float(score[2])),
        score_floor=scoring.floor_of(points, most_false),
        operating_points=points,
        patients=len(seen),
        real=len({one.patient % REAL_APART for one in seen if one.patient >= FIRST_REAL}),
        lesions=lesions,
        candidates=len(found),
        trial=scoring.try_by_halves(found),
        voxel_error=round(sum((one.voxels for one in seen), Bins()).error, 4),
    )
