"""Class probabilities of a candidate, from an engine that separates tumours from mimics."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lesionlens.analysis.findings.components import Component
from lesionlens.base.labels import LesionClass
from lesionlens.base.records.prediction import ClassProbabilities

_MIN_SHARE = 1e-3  # mean share below which the engine does not classify a candidate


def of_component(
    part: Component, found: ClassProbabilities | None
) -> Mapping[LesionClass, float] | None:
    """Return mean class probabilities over a component, normalised to sum one.

    Parameters
    ----------
    part : Component
        On the native grid.
    found : ClassProbabilities or None
        On their own grid, in the same patient space.

    Returns
    -------
    mapping or None
        None if the engine does not classify it.
    """
    if found is None:
        return None
    i, j, k = found.grid.nearest_voxel(part.points_mm(), clip=True).T
    mean = found.share[:, i, j, k].mean(axis=1, dtype=np.float64)
    total = float(mean.sum())
    if total < _MIN_SHARE:
        return None
    return {kind: float(value) / total for kind, value in zip(LesionClass, mean, strict=True)}


def is_apart(shares: Mapping[LesionClass, float] | None, found: ClassProbabilities | None) -> bool:
    """Return whether a candidate with these class probabilities is listed apart."""
    if shares is None or found is None or not found.apart:
        return False
    return shares[LesionClass.TUMOUR] <= found.apart
