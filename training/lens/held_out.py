"""Candidates of real patients from weights not trained on them, for the fit of scores.

Synthetic patients are many and have every kind of lesion, but are not real; each of the few real
ones is examined with the weights of a fold that left the patient out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lesionlens.analysis.evaluation.label_conventions import region_mask
from lesionlens.analysis.evaluation.metrics import reliability
from lesionlens.analysis.findings.components import segment_components
from lesionlens.analysis.native_grid import regions_to_native
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.records.prediction import Prediction
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.engines.lens import LensEngine
from lesionlens.imaging.preparation.prepare import prepare
from lesionlens.training.references import RealCase, Reference
from training.common import resample_labels, restricted_to
from training.lens.calibrate import (
    FIRST_REAL,
    REAL_APART,
    VOXELS,
    ExaminedScan,
    Voxels,
    candidates_of,
    logit,
)

SUBSETS = (frozenset(MrSequence), frozenset({MrSequence.FLAIR}))
"""Sequences of each examination: all, and FLAIR alone, as synthetic patients lack some, too."""


@dataclass(frozen=True, slots=True)
class Fold:
    """Weights, and the cases that they were not trained on."""

    weights: Path
    cases: tuple[RealCase, ...]


def examine_folds(
    folds: Sequence[Fold], subsets: Sequence[frozenset[MrSequence]] = SUBSETS
) -> Iterator[tuple[ExaminedScan, Voxels]]:
    """Examine the cases of each fold with its weights.

    Parameters
    ----------
    folds : sequence of Fold
    subsets : sequence of sets of MrSequence
        Of the sequences; those that a patient lacks are omitted.

    Yields
    ------
    ExaminedScan, Voxels
        The candidates and voxels of one patient with one subset of the sequences.
    """
    number = FIRST_REAL
    for fold in folds:
        engine = LensEngine("cpu", fold.weights)
        for case in fold.cases:
            prepared = prepare(case.study(), RunContext())
            for subset_index, subset in enumerate(subsets):
                study = restricted_to(prepared, subset)
                if study.present.any():
                    yield _examine(
                        engine, study, case.reference(), number + subset_index * REAL_APART
                    )
            number += 1


def _examine(
    engine: LensEngine, study: PreparedStudy, reference: Reference, number: int
) -> tuple[ExaminedScan, Voxels]:
    prediction = engine.predict(study, context=SILENT)
    probability = prediction.probability or {}
    native = regions_to_native(probability, study, nested=True)
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
    probability = prediction.probability or {}
    logits = logit(np.stack([probability[region].reshape(-1)[inside] for region in Region]))
    return logits, _labels(reference, study.working).reshape(3, -1)[:, inside]


def _labels(reference: Reference, grid: Grid) -> NDArray[np.bool_]:
    """Resample a reference to a grid; return nested masks (3, I, J, K)."""
    values, reference_grid = reference
    labels = resample_labels(values, reference_grid, grid)
    return np.stack([region_mask(labels, region) for region in Region])
