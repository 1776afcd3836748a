"""What a candidate looks like to an engine that tells tumours from what only looks like one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lesionlens.base.labels import LesionClass
from lesionlens.findings.components import Component
from lesionlens.records.prediction import ClassProbabilities

_LEAST = 1e-3
"""Mean share over a candidate below which the engine has no name for it."""


def of_component(
    part: Component, kinds: ClassProbabilities | None
) -> Mapping[LesionClass, float] | None:
    """Average the kinds over a component, and scale them so that they add up to one.

    Parameters
    ----------
    part : Part
        On the native grid.
    kinds : ClassProbabilities or None
        On a grid of their own, in the same patient space.

    Returns
    -------
    mapping or None
        None where the engine names nothing.
    """
    if kinds is None:
        return None
    near = np.rint(kinds.grid.to_voxel(part.points_mm())).astype(int)
    i, j, k = np.clip(near, 0, np.array(kinds.grid.shape) - 1).T
    mean = kinds.share[:, i, j, k].mean(axis=1, dtype=np.float64)
    total = float(mean.sum())
    if total < _LEAST:
        return None
    return {kind: float(value) / total for kind, value in zip(LesionClass, mean, strict=True)}
