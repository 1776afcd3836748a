"""Candidates and voxels of held-out patients, on which `training.lens.release` calibrates weights.

The whole engine runs, as on real scans: on synthetic patients with seeds not used in training, and
on each real case with the weights of a fold that left it out. Synthetic patients are many and have
every kind of lesion, real ones are few and real.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import multiprocessing

from lesionlens.analysis.evaluation.label_conventions import region_mask
from lesionlens.analysis.findings.component_scores import component_score
from lesionlens.analysis.findings.components import (
    CandidateCriteria,
    ComponentMask,
    segment_components,
)
from lesionlens.analysis.native_grid import regions_to_native
from lesionlens.base.grid import Grid
from lesionlens.base.labels import REFERENCE_ORDER, MrSequence, Region
from lesionlens.base.numerics import logit as clipped_logit
from lesionlens.base.process import end_with_parent
from lesionlens.base.records.prediction import Prediction, Scoring
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import SILENT
from lesionlens.engines.lens import LensEngine
from lesionlens.imaging.preparation.prepare import prepare
from lesionlens.imaging.preparation.resampling import resample
from lesionlens.training.references import RealCase
from training.lens.volumes import FIRST_VALIDATION_SEED, Presence, sample_presence
from training.synth.generator import GeneratorConfig, SyntheticBatch, draw

Floats = NDArray[np.float64]
FIRST_SEED = FIRST_VALIDATION_SEED + 500_000_000
TEMPERATURE = 100_000_000
"""Number of the first synthetic patient that temperatures are fitted on."""
_FIRST_REAL = 1_000_000
SUBSETS = (frozenset(MrSequence), frozenset({MrSequence.FLAIR}))
"""Real patients are examined with all sequences and with FLAIR alone: synthetic ones lack some,
too."""
_VOXELS = 6000
_MIN_TUMOUR_FRACTION = 0.1  # of a component, from which it is a correct candidate
_FIELD_MM, _TUMOUR_FREE = (168.0, 208.0, 168.0), 0.3


@dataclass(frozen=True, slots=True)
class ScoredCandidate:
    """The features of one candidate, and whether it is correct."""

    logit: float
    """Mean logit of its most certain voxels in the first pass."""
    log_ml: float
    """Logarithm of its volume in ml."""
    correct: bool
    """Whether enough of it is tumour."""
    lesions: tuple[int, ...]
    """The true lesions that it overlaps."""


@dataclass(frozen=True, slots=True, eq=False)
class Examined:
    """One scan: its true lesions, candidates, and some voxels of the brain."""

    lesions: int
    found: tuple[ScoredCandidate, ...]
    """All candidates, whatever their score."""
    logits: Floats
    """(3, n) of WT, TC and ET."""
    true: NDArray[np.bool_]
    """(3, n)."""


def examine_synthetic(weights: Path, spacing_mm: float, number: int) -> Examined:
    """Examine the synthetic patient of this number on a grid of `spacing_mm`."""
    seed = FIRST_SEED + number
    rng = np.random.default_rng(seed)
    nodes = [round(mm / spacing_mm) for mm in _FIELD_MM]
    config = GeneratorConfig(
        shape=(nodes[0], nodes[1], nodes[2]),
        spacing_mm=(spacing_mm, spacing_mm),
        tumour_free=_TUMOUR_FREE,
    )
    batch = draw(config, [seed])
    study = _prepared(batch, sample_presence(rng, Presence()))
    prediction = _engine(weights).predict(study, context=SILENT)
    labels = batch.labels[0].numpy() > 0
    return _examined(prediction, prediction.probability or {}, study, labels, labels, rng)


@cache
def _engine(weights: Path) -> LensEngine:
    return LensEngine("cpu", weights)


def examine_many(
    weights: Path, spacing_mm: float, numbers: Sequence[int], workers: int
) -> Iterator[Examined]:
    """Examine synthetic patients in worker processes of one thread each."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start_worker) as pool:
        count = len(numbers)
        yield from pool.map(examine_synthetic, [weights] * count, [spacing_mm] * count, numbers)


def _start_worker() -> None:
    end_with_parent()
    torch.set_num_threads(1)


def examine_real(
    weights: Path, cases: Sequence[RealCase], subsets: Sequence[frozenset[MrSequence]]
) -> Iterator[Examined]:
    """Examine real cases that the weights were not trained on, with each subset of sequences."""
    engine = LensEngine("cpu", weights)
    for number, case in enumerate(cases, _FIRST_REAL):
        prepared = prepare(case.study(), SILENT)
        values, grid = case.reference()
        for subset in subsets:
            present = prepared.present & np.array([s in subset for s in MrSequence])
            if not present.any():
                continue
            channels = prepared.channels * present[:, None, None, None]
            study = replace(prepared, channels=channels, present=present)
            prediction = engine.predict(study, context=SILENT)
            native = regions_to_native(prediction.probability or {}, study, nested=True)
            masks = []
            for target in (study.native, study.working):
                labels = resample(values.astype(np.float32), grid, target, nearest=True)
                masks.append([region_mask(labels.astype(np.uint8), region) for region in Region])
            rng = np.random.default_rng(number)
            at_native, at_working = map(np.stack, masks)
            yield _examined(prediction, native, study, at_native, at_working, rng)


def _prepared(batch: SyntheticBatch, present: NDArray[np.bool_]) -> PreparedStudy:
    """Return the synthetic patient as a prepared study, on its own grid."""
    channels = batch.channels[0].numpy() * present[:, None, None, None]
    brain = batch.brain[0].numpy()
    edge = float(batch.spacing_mm[0])
    affine = np.diag([edge, edge, edge, 1.0])
    affine[:3, 3] = [-(n - 1) / 2 * edge for n in brain.shape]
    i, j, k = brain.shape
    grid = Grid((i, j, k), affine)
    order = tuple(MrSequence)
    return PreparedStudy(
        channels=channels.astype(np.float32),
        present=present,
        brain=brain,
        working=grid,
        native=grid,
        to_native=np.eye(4),
        reference=next(s for s in REFERENCE_ORDER if present[order.index(s)]),
    )


def _examined(
    prediction: Prediction,
    native: Mapping[Region, NDArray[np.float32]],
    study: PreparedStudy,
    native_labels: NDArray[np.bool_],
    labels: NDArray[np.bool_],
    rng: np.random.Generator,
) -> Examined:
    """Compare a prediction with nested masks (3, I, J, K) on the native and the working grid."""
    masks = dict(zip(Region, native_labels.astype(np.float32), strict=True))
    reference = segment_components(masks, study.native)
    inside = rng.choice(np.flatnonzero(study.brain), _VOXELS)
    probabilities = prediction.probability or {}
    voxels = np.stack([probabilities[region].reshape(-1)[inside] for region in Region])
    return Examined(
        reference.count,
        tuple(_candidates(prediction, native, reference, study.native)),
        _logit(voxels),
        labels.reshape(3, -1)[:, inside],
    )


def _logit(probability: NDArray[np.floating]) -> Floats:
    return np.asarray(clipped_logit(probability.astype(np.float64), 1e-6))


def _candidates(
    prediction: Prediction,
    native: Mapping[Region, NDArray[np.float32]],
    reference: ComponentMask,
    grid: Grid,
) -> Iterator[ScoredCandidate]:
    """Yield the candidates with the features of their scores, as computed by the engine `lens`."""
    if prediction.unperturbed is None:
        return
    marked = segment_components(native, grid, CandidateCriteria(prediction.thresholds))
    flat = prediction.unperturbed.probability[0].reshape(-1)
    for part in marked.parts():
        values = flat[prediction.unperturbed.grid.flat_voxels(part.points_mm())]
        mean_probability = component_score(values, part.volume_ml, Scoring())
        inside = reference.components[part.box][part.mask]
        yield ScoredCandidate(
            logit=round(float(_logit(np.asarray(mean_probability))), 5),
            log_ml=round(float(np.log(max(part.volume_ml, 1e-3))), 5),
            correct=bool((inside > 0).mean() >= _MIN_TUMOUR_FRACTION),
            lesions=tuple(int(n) for n in np.unique(inside) if n),
        )


def append(cache_file: Path, scan: Examined) -> None:
    """Append the lesions and candidates of a scan to a file, as a line of JSON."""
    found = [[f.logit, f.log_ml, f.correct, list(f.lesions)] for f in scan.found]
    with cache_file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({"lesions": scan.lesions, "found": found}) + "\n")


def read(cache_file: Path) -> list[Examined]:
    """Read the scans that were appended, without their voxels."""
    if not cache_file.is_file():
        return []
    none, scans = np.zeros((3, 0)), []
    for line in cache_file.read_text("utf-8").splitlines():
        row = json.loads(line)
        found = (ScoredCandidate(a, b, correct, tuple(n)) for a, b, correct, n in row["found"])
        scans.append(Examined(row["lesions"], tuple(found), none, none > 0))
    return scans
