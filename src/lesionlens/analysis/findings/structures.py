"""Map of brain structures in MNI space: shares of twenty heads, left-right symmetric."""

from __future__ import annotations

from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.geometry import is_inside

STRUCTURES = (
    "white matter",
    "cortex",
    "thalamus",
    "basal ganglia",
    "hippocampus",
    "brainstem",
    "cerebellum",
    "ventricle",
)
STEP_MM = 3.0
ORIGIN_MNI = np.array([0.0, -111.0, -78.0])
SHAPE = (27, 64, 56)
_MAP_LEVELS = 15.0


@cache
def _structure_map() -> NDArray[np.uint8]:
    """Return the (structures, I, J, K) map, in fifteenths of the heads."""
    with resources.as_file(resources.files("lesionlens.analysis.findings") / "places.npz") as path:
        return np.asarray(np.load(path, allow_pickle=False)["share"], dtype=np.uint8)


def grid_mni() -> NDArray[np.float64]:
    """Return the (N, 3) MNI mm of the map's voxels, right of the midline."""
    return np.asarray(np.argwhere(np.ones(SHAPE, bool)) * STEP_MM + ORIGIN_MNI)


def shares_at(mni_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of heads with each structure at a set of points.

    Parameters
    ----------
    mni_mm : (N, 3) float64
        Approximate MNI152 mm; left and right are the same.

    Returns
    -------
    (N, structures) float64
        0 to 1; the remainder to 1 is outside the brain.
    """
    folded = np.column_stack([np.abs(mni_mm[:, 0]), mni_mm[:, 1:]])
    voxels = np.rint((folded - ORIGIN_MNI) / STEP_MM).astype(int)
    inside = is_inside(voxels, SHAPE)
    fractions = np.zeros((len(mni_mm), len(STRUCTURES)))
    i, j, k = voxels[inside].T
    fractions[inside] = _structure_map()[:, i, j, k].T / _MAP_LEVELS
    return fractions
