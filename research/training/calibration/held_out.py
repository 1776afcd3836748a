"""Candidates of real patients from weights not trained on them, for the fit of scores.

Synthetic patients are many and have every kind of lesion, but are not real; each of the few real
ones is examined with the weights of a fold that left the patient out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lesionlens.analysis.evaluation.label_conventions import region_mask
from lesionlens.analysis.evaluation.metrics import reliability
from lesionlens.analysis.findings.components import segment_components
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.records.prediction import Prediction
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.engines.lens.engine import LensEngine
from lesionlens.engines.native_grid import resample_regions
from lesionlens.imaging.preparation.prepare import prepare
from lesionlens.imaging.preparation.resampling import resample
from lesionlens.training.references import RealCase, Reference
from research.training.calibration.calibrate import (
    FIRST_REAL,
    REAL_APART,
    VOXELS,
    ExaminedScan,
    Voxels,
    candidates_of,
    logit,
)

SUBSETS = (frozenset(MrSequence), frozenset({MrSequence.FLAIR}))
"""Each patient is shown whole and with FLAIR alone, as drawn ones are shown in parts."""


@dataclass(frozen=True, slots=True)
class Fold:
    """Weights, and patients that they have not trained on."""

    weights: Path
    cases: tuple[RealCase, ...]


def examine_folds(
    folds: Sequence[Fold], subsets: Sequence[frozenset[MrSequence]] = SUBSETS
) -> Iterator[tuple[ExaminedScan, Voxels]]:
    """Show each fold the patients that it left out.

    Parameters
    ----------
    folds : sequence of Fold
    subsets : sequence of sets of MrSequence
        Of which of their sequences; those that a patient lacks are left out.

    Yields
    ------
    ExaminedScan, Voxels
        What one patient shows with one subset of the sequences, as synthetic patients do.
    """
    number = FIRST_REAL
    for fold in folds:
        engine = LensEngine("cpu", fold.weights)
        for case in fold.cases:
            prepared = prepare(case.study(), RunContext())
            for place, subset in enumerate(subsets):
                shown = _showing(prepared, subset)
                if shown.present.any():
                    yield _examine(engine, shown, case.reference(), number + place * REAL_APART)
            number += 1


def _showing(prepared: PreparedStudy, subset: frozenset[MrSequence]) -> PreparedStudy:
    wanted = np.array([sequence in subset for sequence in MrSequence])
    present = prepared.present & wanted
    channels = prepared.channels * present[:, None, None, None]
    return dataclasses.replace(prepared, present=present, channels=channels)


def _examine(
    engine: LensEngine, study: PreparedStudy, reference: Reference, number: int
) -> tuple[ExaminedScan, Voxels]:
    prediction = engine.predict(study, context=SILENT)
    known = prediction.probability or {}
    native = resample_regions(known, study, nested=True)
    labels = _labels(reference, study.native).astype(np.float32)
    lesions = segment_components(dict(zip(Region, labels, strict=True)), study.native)
    found = candidates_of(prediction, native, lesions, study.native, number)
    voxels = _voxels(prediction, study, reference, number)
    probability = 1 / (1 + np.exp(-voxels[0][0]))
    return ExaminedScan(
        number, lesions.count, found, reliability(probability, voxels[1][0])
    ), voxels


def _voxels(
    prediction: Prediction, study: PreparedStudy, reference: Reference, number: int
) -> Voxels:
    inside = np.random.default_rng(number).choice(np.flatnonzero(study.brain), VOXELS)
    known = prediction.probability or {}
    logits = logit(np.stack([known[region].reshape(-1)[inside] for region in Region]))
    return logits, _labels(reference, study.working).reshape(3, -1)[:, inside]


def _labels(reference: Reference, grid: Grid) -> NDArray[np.bool_]:
    """Resample a reference to a grid; (3, I, J, K), nested."""
    values, own = reference
    near = resample(values.astype(np.float32), own, grid, nearest=True).astype(np.uint8)
    return np.stack([region_mask(near, region) for region in Region])
