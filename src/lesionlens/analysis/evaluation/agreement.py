"""Agreement between two readers' outlines of one study."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base import geometry
from lesionlens.base.geometry import Labels
from lesionlens.base.grid import Grid
from lesionlens.base.labels import Region, ReviewState
from lesionlens.base.masks import connected_parts, depth_inside, dice
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.findings import BOTH_SIDES, Candidate, Point

MIN_ML = 0.05
"""Smaller disagreements are not listed, but count in Dice."""
_MARGIN_VOX = 2
_THICK_SLICE_MM = 2.0


@dataclass(frozen=True, slots=True)
class RegionAgreement:
    """Volumes and Dice of one region in both results."""

    region: Region
    first_ml: float
    second_ml: float
    dice: float


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A connected part that only one of the two readers outlined."""

    number: int
    """Number of its voxels in `Agreement.parts`; 1 is the largest."""
    by_first: bool
    """True if the first reader outlined it, False if the second."""
    volume_ml: float
    point_mm: Point
    """(3,): RAS+, its innermost voxel."""


@dataclass(frozen=True, slots=True, eq=False)
class Agreement:
    """Agreement between two results of one study."""

    regions: tuple[RegionAgreement, ...]
    disagreements: tuple[Disagreement, ...]
    """Largest first."""
    parts: NDArray[np.int32]
    """(I, J, K) int32: number of the disagreement at each voxel, else 0."""
    unlisted_ml: float = 0.0
    """Volume that only one of them outlined in parts that are not listed, as they are too thin."""


def accepted_labels(analysis: Analysis) -> Labels:
    """Return the labels of a result without rejected candidates."""
    retained = np.isin(analysis.findings.components, [c.id for c in _not_rejected(analysis)])
    return np.where(retained, analysis.volumes.labels.data, np.uint8(0))


def known_regions(analysis: Analysis) -> tuple[Region, ...]:
    """Return the regions of which the volume of every candidate that is not rejected is known."""
    candidates = _not_rejected(analysis)
    return tuple(
        region
        for region in analysis.prepared.regions
        if all(candidate.volume_ml.get(region) is not None for candidate in candidates)
    )


def only_side(analysis: Analysis) -> str:
    """Return the side on which all candidates lie that are not rejected; empty if there is none."""
    sides = {candidate.location.side for candidate in _not_rejected(analysis)}
    side = sides.pop() if len(sides) == 1 else None
    return "" if side is None or side == BOTH_SIDES else side


def _not_rejected(analysis: Analysis) -> list[Candidate]:
    state_of = analysis.review.state_of
    candidates = analysis.findings.candidates
    return [c for c in candidates if state_of(c.tracking_uid) is not ReviewState.REJECTED]


def agreement(
    first: Labels, second: Labels, grid: Grid, regions: tuple[Region, ...] = tuple(Region)
) -> Agreement:
    """Compare two results of one study.

    Parameters
    ----------
    first, second : (I, J, K) uint8
        Labels on one grid.
    regions : tuple of Region
        Regions that both can show.

    Returns
    -------
    Agreement
        Rims of a single voxel around what both outlined are not listed, but count in Dice.
    """
    region_agreements = tuple(_region_agreement(region, first, second, grid) for region in regions)
    parts = np.zeros(first.shape, np.int32)
    box = geometry.bounding_box((first > 0) ^ (second > 0), _MARGIN_VOX)
    if box is None:
        return Agreement(region_agreements, (), parts)
    in_first, in_second = first[box] > 0, second[box] > 0
    exclusive_parts = [
        (volume_ml, by_first, mask)
        for by_first, exclusive in ((True, in_first & ~in_second), (False, in_second & ~in_first))
        for volume_ml, mask in _exclusive_parts(exclusive, in_first & in_second, grid)
    ]
    origin = [int(side.start) for side in box]
    disagreements = []
    for number, part in enumerate(sorted(exclusive_parts, key=lambda part: -part[0]), 1):
        volume_ml, by_first, mask = part
        parts[box][mask] = number
        depth = depth_inside(mask, grid.nominal_spacing_mm)
        innermost = np.unravel_index(int(depth.argmax()), depth.shape)
        point_mm = geometry.as_vec3(grid.to_mm(np.add(origin, innermost)))
        disagreements.append(Disagreement(number, by_first, volume_ml, point_mm))
    unlisted = grid.volume_ml((in_first != in_second) & (parts[box] == 0))
    return Agreement(region_agreements, tuple(disagreements), parts, unlisted)


def _region_agreement(region: Region, first: Labels, second: Labels, grid: Grid) -> RegionAgreement:
    first_mask, second_mask = np.isin(first, region.labels), np.isin(second, region.labels)
    return RegionAgreement(
        region,
        grid.volume_ml(first_mask),
        grid.volume_ml(second_mask),
        dice(first_mask, second_mask),
    )


def _exclusive_parts(
    exclusive: NDArray[np.bool_], shared: NDArray[np.bool_], grid: Grid
) -> Iterator[tuple[float, NDArray[np.bool_]]]:
    """Yield ml and mask of each part: whole if apart from what both outlined, else without rims.

    Rims are one voxel thick; one thick slice may be a part.
    """
    apart, apart_sizes = connected_parts(exclusive)
    apart_sizes[np.unique(apart[ndimage.binary_dilation(shared)])] = 0
    footprint = [2 if edge < _THICK_SLICE_MM else 1 for edge in grid.nominal_spacing_mm]
    touching = exclusive & (apart_sizes[apart] == 0)
    opened = ndimage.binary_opening(touching, np.ones(footprint, bool))
    for numbers, sizes in ((apart, apart_sizes), connected_parts(opened, None)):
        volumes = sizes * grid.voxel_ml
        for number in np.flatnonzero(volumes >= MIN_ML * (1 - geometry.VOLUME_TOLERANCE)):
            yield float(volumes[number]), numbers == number
