"""Score components on the grid of a first pass, for the input as it is and for perturbed ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.grid import Grid
from lesionlens.base.records.prediction import PerturbedPrediction, Scoring
from lesionlens.engines.component_score import component_score


def voxels_on(points_mm: NDArray[np.float64], grid: Grid) -> NDArray[np.intp]:
    """Return the flat indices of the voxels of a grid that hold any of (N, 3) RAS points.

    Points beyond the grid count for its nearest voxel, so that no candidate is left without one.
    """
    index = np.rint(grid.to_voxel(points_mm)).astype(np.intp)
    index = np.clip(index, 0, np.array(grid.shape) - 1)
    return np.unique(np.ravel_multi_index(tuple(index.T), grid.shape))


@dataclass(frozen=True, slots=True, eq=False)
class ComponentVoxels:
    """The voxels of a component on the grid of a first pass."""

    voxels: NDArray[np.intp]
    """(n,) int: flat indices on that grid, from `voxels_on`."""
    volume_ml: float
    """Of the component."""


def score_components(
    passes: PerturbedPrediction, components: Sequence[ComponentVoxels], scoring: Scoring
) -> NDArray[np.float64]:
    """Score each component for each perturbed input.

    Returns
    -------
    (V, N) float64
        0 to 1.
    """
    flat = passes.probability.reshape(len(passes.probability), -1)
    if not components:
        return np.zeros((len(flat), 0))
    found = [component_score(flat[:, c.voxels], c.volume_ml, scoring) for c in components]
    return np.stack(found, axis=1)


def score_what_is_drawn(
    passes: PerturbedPrediction,
    components: Sequence[ComponentVoxels],
    scoring: Scoring,
    threshold: float,
) -> NDArray[np.float64]:
    """Score what each perturbed input would draw of each component: 0 where that is nothing.

    The size of an outline counts in its score. An input that shows nothing there must not be
    credited with the size of what another drew.

    Parameters
    ----------
    passes : PerturbedPrediction
        The answers.
    components : sequence of N ComponentVoxels
        Where something was drawn before.
    scoring : Scoring
        How it is scored.
    threshold : float
        Probability from which a voxel is drawn.

    Returns
    -------
    (V, N) float64
        0 to 1.
    """
    flat = passes.probability.reshape(len(passes.probability), -1)
    found = np.zeros((len(flat), len(components)))
    for n, component in enumerate(components):
        for v, values in enumerate(flat[:, component.voxels]):
            drawn = values[values >= threshold]
            if drawn.size:
                ml = component.volume_ml * drawn.size / values.size
                found[v, n] = component_score(drawn, ml, scoring)
    return found
