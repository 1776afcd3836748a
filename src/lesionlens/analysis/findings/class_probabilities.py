"""Class probabilities of a candidate, from an engine that separates tumours from mimics."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lesionlens.analysis.findings.components import Component
from lesionlens.base.labels import LesionClass
from lesionlens.base.records.prediction import ClassProbabilities

_MIN_TOTAL = 1e-3  # mean share below which the engine does not classify a candidate


def of_component(
    part: Component, probabilities: ClassProbabilities | None
) -> Mapping[LesionClass, float] | None:
    """Return mean class probabilities over a component, normalised to sum one.

    Parameters
    ----------
    part : Component
        On the native grid.
    probabilities : ClassProbabilities or None
        On their own grid, in the same patient space.

    Returns
    -------
    mapping or None
        None if the engine does not classify it.
    """
    if probabilities is None:
        return None
    i, j, k = probabilities.grid.nearest_voxel(part.points_mm(), clip=True).T
    mean = probabilities.share[:, i, j, k].mean(axis=1, dtype=np.float64)
    total = float(mean.sum())
    if total < _MIN_TOTAL:
        return None
    return {kind: float(value) / total for kind, value in zip(LesionClass, mean, strict=True)}
