"""What each candidate looks like to an engine that tells tumours from what only looks like one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lesionlens.base.labels import Kind
from lesionlens.findings.components import Marked, parts_of
from lesionlens.records.prediction import Kinds

_LEAST = 1e-3
"""Mean share over a candidate below which the engine has no name for it."""


def of_parts(marked: Marked, kinds: Kinds | None) -> list[Mapping[Kind, float] | None]:
    """Average the kinds over each component, and scale them so that they add up to one.

    Parameters
    ----------
    marked : Marked
        Components on the native grid.
    kinds : Kinds or None
        On a grid of their own, in the same patient space.

    Returns
    -------
    list of mapping or None
        In the components' order; None where the engine names nothing.
    """
    if kinds is None:
        return [None] * marked.count
    found: list[Mapping[Kind, float] | None] = []
    last = np.array(kinds.grid.shape) - 1
    for part in parts_of(marked):
        near = np.rint(kinds.grid.to_voxel(part.points_mm())).astype(int)
        i, j, k = np.clip(near, 0, last).T
        mean = kinds.share[:, i, j, k].mean(axis=1, dtype=np.float64)
        total = float(mean.sum())
        shares = (float(value) / total for value in mean) if total >= _LEAST else None
        found.append(None if shares is None else dict(zip(Kind, shares, strict=True)))
    return found
