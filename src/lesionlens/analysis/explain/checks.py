"""Check attention maps by where their peak is and how much of them lies in the region.

`check_maps` judges each region's map. One that fails is labelled and not shown by default. Queries
without meaning may point to a tumour because it stands out, but not each to its own region: so the
maps of the other regions, which are of the same layer, count too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.analysis.findings.components import ComponentMask
from lesionlens.base.geometry import (
    Floats,
    Mask,
    bounding_box,
    index_map,
    is_inside,
    nearest,
    respace,
)
from lesionlens.base.grid import Grid
from lesionlens.base.labels import Region
from lesionlens.base.records.attention import MapChecks
from lesionlens.base.records.prediction import Trace
from lesionlens.base.records.study import PreparedStudy

_T = TypeVar("_T", bound=np.generic)
MIN_NEAR = 0.8
"""Minimum share of the attention in voxels of 3 mm that hold any of the flagged region."""
_EDGE_MM = 3.0
_TOLERANCE = 1e-3  # rounding of a map's coarseness
NOT_CHECKED = "not checked: nothing of this region is flagged"
PASSED = "passed its checks"
TOO_COARSE = (
    "too coarse to judge its position: at this resolution, no more of a perfect map would lie "
    "inside"
)


def check_maps(
    trace: Trace,
    attention: Mapping[Region, Floats],
    components: ComponentMask,
    prepared: PreparedStudy,
) -> dict[Region, MapChecks]:
    """Check the map of each region.

    Parameters
    ----------
    trace : Trace
        Weights on the working grid.
    attention : mapping of Region to (I, J, K) float32
        The maps on the native grid, that of `components`.
    """
    edge_mm = max(_EDGE_MM, *prepared.working.spacing_mm)
    affine, shape = respace(prepared.working.affine, prepared.working.shape, (edge_mm,) * 3)
    grid = Grid(shape, affine)
    brain = _nearest(prepared.brain, prepared.working, grid)
    flagged = flagged_on(components, grid)
    near, attainable = {}, {}
    for region, weights in trace.cross.items():
        if flagged[region].any():
            near[region] = _share(_nearest(weights, prepared.working, grid), flagged[region], brain)
            coarseness = trace.spacing_mm / edge_mm
            attainable[region] = _attainable(flagged[region], brain, coarseness)
    relative = {r: min(near[r] / most, 1.0) for r, most in attainable.items() if most > 0}
    brain_voxels = prepared.working.volume_ml(prepared.brain) / prepared.native.voxel_ml
    checks = {}
    for region, values in attention.items():
        position = pointing(values, np.isin(components.labels, region.labels), brain_voxels)
        if position.peak_inside is not None and region in near:
            others = [share for other, share in relative.items() if other is not region]
            position = replace(
                position,
                near=near[region],
                attainable=attainable[region],
                others_near=min(others, default=None),
            )
        checks[region] = judged(position)
    return checks


def pointing(attention: Floats, inside: Mask, brain_voxels: float) -> MapChecks:
    """Return whether the peak of a map is in a mask on its grid, and the share of attention there.

    All None if nothing is flagged or attended.
    """
    total = float(attention.sum(dtype=np.float64))
    if total <= 0 or not inside.any():
        return MapChecks(None, None, None)
    peak = bool(attention.max(where=inside, initial=0.0) >= attention.max())
    mass = float(attention.sum(where=inside, dtype=np.float64)) / total
    return MapChecks(peak, mass, float(np.count_nonzero(inside) / max(1.0, brain_voxels)))


def judged(checks: MapChecks) -> MapChecks:
    """Return checks with their verdict.

    Examples
    --------
    >>> judged(MapChecks(True, 0.9, 0.01, near=0.95)).verdict
    'passed its checks'
    """
    if checks.peak_inside is None:
        return replace(checks, verdict=NOT_CHECKED)
    faults = []
    if not checks.peak_inside:
        faults.append("its peak lies outside the flagged region")
    if checks.near is not None and checks.near < MIN_NEAR * checks.attainable:
        faults.append("too much of its attention lies outside the flagged region")
    if checks.others_near is not None and checks.others_near < MIN_NEAR:
        faults.append("another region's map of the same layer lies outside that region")
    if not faults and too_coarse(checks):
        return replace(checks, reliable=None, verdict=TOO_COARSE)
    verdict = f"not reliable here: {'; '.join(faults)}" if faults else PASSED
    return replace(checks, reliable=not faults, verdict=verdict)


def too_coarse(checks: MapChecks) -> bool:
    """Return whether a map is so coarse that not even a perfect one would keep to `MIN_NEAR`."""
    return checks.near is not None and checks.near < MIN_NEAR and checks.attainable < 1


def flagged_on(components: ComponentMask, grid: Grid) -> dict[Region, Mask]:
    """Return the voxels of another grid that hold a flagged voxel of each region, or lie in one."""
    labels, box = components.labels, bounding_box(components.labels > 0)
    out = {region: np.zeros(grid.shape, bool) for region in Region}
    if box is None:
        return out
    centres = np.indices(grid.shape).reshape(3, -1).T
    index = nearest(index_map(grid.affine, components.grid.affine), centres)
    inside = is_inside(index, labels.shape)
    found = np.zeros(len(index), labels.dtype)
    found[inside] = labels[tuple(index[inside].T)]
    for region, mask in out.items():
        mask.ravel()[:] = np.isin(found, region.labels)
        voxels = np.argwhere(np.isin(labels[box], region.labels)) + [side.start for side in box]
        mask.ravel()[grid.flat_voxels(components.grid.to_mm(voxels))] = True
    return out


def _attainable(inside: Mask, brain: Mask, coarseness: float) -> float:
    """Return the share inside of the outline itself, averaged over cubes and interpolated back."""
    factor = math.ceil(coarseness - _TOLERANCE)
    if factor <= 1:
        return 1.0
    padded = np.pad(inside.astype(np.float32), [(0, -n % factor) for n in inside.shape])
    i, j, k = (n // factor for n in padded.shape)
    cubes = padded.reshape(i, factor, j, factor, k, factor).mean((1, 3, 5))
    fine = ndimage.zoom(cubes, factor, order=1, grid_mode=True, mode="nearest")
    return _share(fine[tuple(slice(n) for n in inside.shape)], inside, brain)


def _share(weights: Floats, inside: Mask, brain: Mask) -> float:
    weights = np.where(brain, weights, 0).astype(np.float64)
    return float(weights[inside].sum() / max(float(weights.sum()), 1e-12))


def _nearest(values: NDArray[_T], source: Grid, target: Grid) -> NDArray[_T]:
    """Resample to another axis-aligned grid by nearest neighbour."""
    index = np.linalg.inv(source.affine) @ target.affine
    along = [
        np.clip(np.rint(index[a, a] * np.arange(n) + index[a, 3]), 0, source.shape[a] - 1)
        for a, n in enumerate(target.shape)
    ]
    return values[np.ix_(*(steps.astype(np.intp) for steps in along))]
