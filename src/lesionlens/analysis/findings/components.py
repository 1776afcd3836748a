"""Segment components on the native grid: threshold, fill holes, drop specks, merge parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.analysis.findings.component_scores import ComponentVoxels, component_score
from lesionlens.base.geometry import TOUCHING, VOLUME_TOLERANCE, Box, Floats, Mask, bounding_box
from lesionlens.base.grid import Grid
from lesionlens.base.labels import Label, Region
from lesionlens.base.numerics import connected_parts
from lesionlens.base.records.findings import Findings
from lesionlens.base.records.prediction import DEFAULT_THRESHOLDS, Prediction, SlightEnhancement
from lesionlens.imaging.preparation.resampling import cut_grid

ROUNDING_MM = 1e-4
"""Slack of a gap: voxels of 1 mm are 1.00000002 mm in many a header in float32."""


@dataclass(frozen=True, slots=True)
class CandidateCriteria:
    """Criteria for candidates."""

    thresholds: Mapping[Region, float] = field(default_factory=lambda: DEFAULT_THRESHOLDS)
    """Probability at which a voxel belongs to the region."""
    merge_mm: float = 3.0
    """Parts whose gap closes when each is dilated by this much are one lesion, as in BraTS 2023."""
    smallest_ml: float = 0.1
    """Smaller connected parts are dropped, in each region."""
    slight_enhancement: SlightEnhancement = field(default_factory=SlightEnhancement)
    """Thresholds for enhancement that is relabelled as core."""

    def smallest_vox(self, grid: Grid) -> int:
        """Return the minimum number of voxels of a connected part.

        If it lies half-way, as of 2 mm with 12.5, no header's rounding decides.
        """
        return max(1, round(self.smallest_ml * (1 - VOLUME_TOLERANCE) / grid.voxel_ml))


@dataclass(frozen=True, slots=True, eq=False)
class ComponentMask:
    """Voxels of the candidates, before measurement."""

    labels: NDArray[np.uint8]
    """(I, J, K) uint8: `base.labels.Label`; non-zero exactly where `components` is."""
    components: NDArray[np.int32]
    """(I, J, K) int32: 1 to `count`, 0 elsewhere."""
    count: int
    grid: Grid
    """Native."""

    @classmethod
    def of(cls, findings: Findings, grid: Grid) -> ComponentMask:
        """Return candidates as components in the order of their ids, without labels."""
        labels = np.zeros(grid.shape, np.uint8)
        return cls(labels, findings.components, len(findings.candidates), grid)

    def parts(self) -> Iterator[Component]:
        """Yield each component, in order."""
        for number, box in boxes_of(self.components).items():
            mask: Mask = self.components[box] == number
            labels = np.where(mask, self.labels[box], 0)
            yield Component(number - 1, box, mask, labels, cut_grid(self.grid, box))

    def voxels_on(self, grid: Grid) -> list[ComponentVoxels]:
        """Return the voxels of each component on a first pass's grid."""
        return [ComponentVoxels(grid.flat_voxels(p.points_mm()), p.volume_ml) for p in self.parts()]

    def keep(self, selected: Sequence[bool]) -> ComponentMask:
        """Return only the selected components, renumbered in the same order."""
        if all(selected):
            return self
        flags = np.array([False, *selected])
        numbers = np.where(flags, np.cumsum(flags), 0).astype(np.int32)
        components = renumbered(self.components, numbers)
        labels = np.zeros(self.labels.shape, np.uint8)
        np.copyto(labels, self.labels, where=components > 0)
        return ComponentMask(labels, components, int(flags.sum()), self.grid)


def segment_components(
    probability: Mapping[Region, Floats],
    grid: Grid,
    criteria: CandidateCriteria | None = None,
    cavity: Mask | None = None,
) -> ComponentMask:
    """Segment the candidates.

    Parameters
    ----------
    probability : mapping of Region to (I, J, K) float32
        0 to 1 on the native grid; voxels outside the enclosing region are ignored. Without
        enhancing-tumour probability no part of a core is labelled as enhancing.
    grid : Grid
        Native.
    cavity : (I, J, K) bool or None
        Resection cavity: belongs to no component, even if one surrounds it.

    Returns
    -------
    ComponentMask
        The components, numbered in array order.
    """
    criteria = criteria or CandidateCriteria()
    whole_tumour = probability[Region.WT] >= criteria.thresholds[Region.WT]
    box = bounding_box(whole_tumour)
    labels = np.zeros(grid.shape, np.uint8)
    components = np.zeros(grid.shape, np.int32)
    if box is None:
        return ComponentMask(labels, components, 0, grid)
    min_voxels = criteria.smallest_vox(grid)
    region = fill_planar_holes(whole_tumour[box])
    if cavity is not None:
        region &= ~cavity[box]
    region = without_specks(region, min_voxels)
    box_labels = np.where(region, np.uint8(Label.OEDEMA), np.uint8(0))
    core = region & (probability[Region.TC][box] >= criteria.thresholds[Region.TC])
    core = without_specks(fill_planar_holes(core) & region, min_voxels)
    box_labels[core] = Label.CORE
    if Region.ET in probability:
        values = probability[Region.ET][box]
        enhancing = without_specks(core & (values >= criteria.thresholds[Region.ET]), min_voxels)
        slight = _slight(core, enhancing, values, criteria.slight_enhancement)
        box_labels[enhancing & ~slight] = Label.ENHANCING
    labels[box] = box_labels
    components[box], count = merged(box_labels > 0, grid, criteria.merge_mm)
    return ComponentMask(labels, components, count, grid)


def relabelled_ml(
    component_mask: ComponentMask, enhancing: Floats, criteria: CandidateCriteria
) -> float:
    """Return the volume of possible enhancement that was relabelled as core.

    Parameters
    ----------
    component_mask : ComponentMask
        From `segment_components`, or some of its components.
    enhancing : (I, J, K) float32 array
        Probability of enhancing tumour on the same grid.

    Returns
    -------
    float
        ml, without specks.
    """
    relabelled = (component_mask.labels == Label.CORE) & (
        enhancing >= criteria.thresholds[Region.ET]
    )
    box = bounding_box(relabelled)
    if box is None:
        return 0.0
    return component_mask.grid.volume_ml(
        without_specks(relabelled[box], criteria.smallest_vox(component_mask.grid))
    )


def fill_planar_holes(mask: Mask) -> Mask:
    """Fill voxels that are enclosed in at least two of the three orthogonal planes.

    Enclosed voxels belong to the tumour or core, although a cyst may look like fluid and a necrosis
    like oedema.

    Examples
    --------
    >>> shell = np.ones((5, 5, 5), bool); shell[1:4, 1:4, 1:4] = False
    >>> int(fill_planar_holes(shell).sum()), int(fill_planar_holes(shell[:, :, 1:4]).sum())
    (125, 48)
    """
    votes = np.zeros(mask.shape, np.uint8)
    for axis in range(3):
        votes += _holes(mask, axis)
    return mask | (votes >= 2)


def _holes(mask: Mask, axis: int) -> Mask:
    """Return enclosed voxels within each plane perpendicular to an axis."""
    planar = ndimage.generate_binary_structure(3, 1)
    planar[tuple(slice(None) if other != axis else slice(0, 3, 2) for other in range(3))] = False
    background, count = ndimage.label(~mask, structure=planar)
    outside = np.zeros(count + 1, dtype=bool)
    outside[0] = True
    for other in range(3):
        if other != axis:
            for end in (0, -1):
                outside[background.take(end, axis=other)] = True
    return np.asarray(~outside[background])


def without_specks(mask: Mask, min_voxels: int) -> Mask:
    """Remove the connected parts of a mask with fewer than `min_voxels` voxels, at least 1."""
    parts, sizes = connected_parts(mask)
    return np.asarray((sizes >= min_voxels)[parts])


def _slight(core: Mask, enhancing: Mask, probability: Floats, limits: SlightEnhancement) -> Mask:
    """Return the enhancement that is small and improbable in its connected core."""
    cores, _ = ndimage.label(core, structure=TOUCHING)
    slight = np.zeros_like(enhancing)
    for number in np.unique(cores[enhancing]):
        core_part = cores == number
        enhancing_part = core_part & enhancing
        is_small = enhancing_part.sum() < limits.share * core_part.sum()
        if is_small and np.median(probability[enhancing_part]) < limits.median:
            slight |= enhancing_part
    return slight


def merged(mask: Mask, grid: Grid, merge_mm: float) -> tuple[NDArray[np.int32], int]:
    """Assign numbers to connected parts; parts with a small gap get the same one."""
    parts, count = ndimage.label(mask, structure=TOUCHING)
    if count < 2:
        return parts.astype(np.int32), count
    reach = np.ceil(merge_mm / grid.spacing_mm).astype(int)
    padded = np.pad(mask, [(int(n), int(n)) for n in reach])
    distance_mm = ndimage.distance_transform_edt(~padded, sampling=grid.spacing_mm)
    near = distance_mm <= merge_mm + ROUNDING_MM
    groups, count = ndimage.label(near, structure=TOUCHING)
    sizes = zip(reach, groups.shape, strict=True)
    interior = tuple(slice(int(n), size - int(n)) for n, size in sizes)
    return np.where(mask, groups[interior], 0).astype(np.int32), count


def renumbered(components: NDArray[np.int32], numbers: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return components with the number `numbers[n]` in place of each n; 0 stays 0."""
    out = np.zeros(components.shape, np.int32)
    if (box := bounding_box(components > 0)) is not None:
        out[box] = numbers[components[box]]
    return out


@dataclass(frozen=True, slots=True, eq=False)
class Component:
    """One component, cropped from the native grid."""

    index: int
    """From 0, in the order of its `ComponentMask`."""
    box: Box
    """(3,) slices: its box on the native grid."""
    mask: Mask
    """(I, J, K) bool: its voxels within the box."""
    labels: NDArray[np.uint8]
    """(I, J, K) uint8: its labels within the box, 0 elsewhere."""
    grid: Grid

    @property
    def volume_ml(self) -> float:
        """Its volume."""
        return self.grid.volume_ml(self.mask)

    def region(self, region: Region) -> Mask:
        """Return the voxels of one region within the box."""
        return np.isin(self.labels, region.labels)

    def points_mm(self) -> NDArray[np.float64]:
        """Return the (N, 3) RAS mm of its voxels."""
        return self.grid.to_mm(np.argwhere(self.mask))


def boxes_of(components: NDArray[np.integer]) -> dict[int, Box]:
    """Return the box of each number >= 1 in an (I, J, K) array, ascending."""
    boxes = enumerate(ndimage.find_objects(components), 1)
    return {number: box for number, box in boxes if box is not None}


def plain_scores(
    component_mask: ComponentMask, prediction: Prediction, probability: Mapping[Region, Floats]
) -> list[float]:
    """Score components by their probability on the native grid, without a first pass."""
    whole = probability[Region.WT]
    return [
        float(component_score(whole[p.box][p.mask], p.volume_ml, prediction.scoring))
        for p in component_mask.parts()
    ]
