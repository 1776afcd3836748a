"""Arrays for display, on axis-aligned RAS grids, as napari's 2-D slicing drops rotations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lesionlens.analysis.explain.maps import FAINT
from lesionlens.base import geometry
from lesionlens.base.grid import Grid
from lesionlens.base.labels import Label, MrSequence, Region
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.arrays import Volume, frozen
from lesionlens.base.records.findings import Point
from lesionlens.base.records.study import StepName
from lesionlens.imaging.preparation.resampling import resample
from lesionlens.napari.model.geometry.slices import MAX_TILT, OrientedVolume, tilt

ATTENTION_MAP, GRAD_CAM_MAP, _OTHER_MAP = "Attention", "Grad-CAM", "Map"
_UNIFORM_ATTENTION = "times uniform attention over the brain"
_UNIFORM_GRADIENTS = "times uniform evidence over the brain, by gradients"
_UNIFORM_MAP = "times a uniform map over the brain"


@dataclass(frozen=True, slots=True, eq=False)
class MapView:
    """A map for display."""

    data: NDArray[np.float32]
    """(I, J, K) float32: on the working grid."""
    top: float
    """Value at full colour; 0 is transparent."""
    ticks: tuple[tuple[float, str], ...]
    """Ticks of the legend: tuple of (value, words)."""
    meaning: str
    """Description of the values."""
    low: float = 0.0
    """Value at the opposite full colour of a signed map; else 0."""
    role: str = "attention"
    """Role, which selects the colours."""
    statistics: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Overlays:
    """Overlays for the image, on the working grid (axis-aligned RAS+, mm)."""

    grid: Grid
    """The working grid."""
    images: Mapping[MrSequence, NDArray[np.float32]]
    """Mapping of MrSequence to (I, J, K) float32: the sequences on the working grid."""
    components: NDArray[np.int32]
    """(I, J, K) int32: candidate id of each voxel, 0 elsewhere."""
    labels: NDArray[np.uint8]
    """(I, J, K) uint8: tumour part of each voxel."""
    brain: NDArray[np.bool_]
    """(I, J, K) bool: for the view in three dimensions."""
    registered: frozenset[MrSequence]
    """Sequences that were registered to the reference, so that their files' positions differ."""
    attention: Mapping[Region, MapView]
    """Attention by region; empty without attention."""
    evidence: tuple[MrSequence, MapView] | None = None
    """The contribution map of the sequence requested last."""

    def contain(self, view: MapView) -> bool:
        """Whether a map is one of these, and not of another analysis."""
        evidence = () if self.evidence is None else (self.evidence[1],)
        return any(view is own for own in (*self.attention.values(), *evidence))

    def candidate_at(self, at_mm: Point) -> int:
        """Return the id of the candidate at a position (RAS+ mm), 0 if there is none."""
        voxel = self.grid.nearest_voxel(at_mm)
        return int(self.components[tuple(voxel)]) if self.grid.contains(voxel) else 0

    def outline(self, region: Region) -> NDArray[np.int32]:
        """Return the candidate id of each voxel of a region, 0 elsewhere."""
        inside = np.isin(self.labels, [int(label) for label in region.labels])
        return np.where(inside, self.components, 0).astype(np.int32)


def overlays_of(analysis: Analysis) -> Overlays:
    """Resample everything for display onto the working grid; takes about a second.

    Labels are resampled by nearest neighbour, maps linearly; maps already on the working grid are
    used as they are.
    """
    prepared = analysis.prepared
    components, labels = outlines_of(analysis)
    return Overlays(
        grid=prepared.working,
        images=prepared.images,
        components=components,
        labels=labels,
        brain=prepared.brain,
        registered=frozenset(
            step.sequence
            for step in prepared.steps
            if step.step is StepName.REGISTER and step.done and step.sequence is not None
        ),
        attention=_attention(analysis),
    )


def outlines_of(analysis: Analysis) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Return candidate ids and labels on the working grid."""
    native, working = analysis.prepared.native, analysis.prepared.working
    components, labels = (
        onto(data, native, working, nearest=True)
        for data in (analysis.findings.components, analysis.volumes.labels.data)
    )
    return frozen(components.astype(np.int32)), frozen(labels.astype(np.uint8))


def _attention(analysis: Analysis) -> dict[Region, MapView]:
    """Return attention maps on a logarithmic scale, in multiples of uniform attention.

    Maps of another method are on the same scale. A map from 0 to 1 of a reopened result, whose raw
    range is unknown, is shown unchanged.
    """
    grid, maps = analysis.prepared.working, analysis.maps
    meanings = {ATTENTION_MAP: _UNIFORM_ATTENTION, GRAD_CAM_MAP: _UNIFORM_GRADIENTS}
    meaning = meanings.get(map_name(analysis), _UNIFORM_MAP)
    views = {}
    for region, volume in analysis.volumes.attention.items():
        if maps is not None and region in maps.maps:
            high = max(maps.raw_range[region][1], FAINT)
            views[region] = multiples(maps.maps[region] * np.float32(high), meaning)
        else:
            views[region] = MapView(
                _linear(volume, grid), 1.0, _FRACTION_TICKS, "of the map's maximum"
            )
    return views


def map_name(analysis: Analysis) -> str:
    """Return the name of a result's maps, by the method that their engine states, if any."""
    maps = analysis.maps
    if maps is None or maps.is_attention:
        return ATTENTION_MAP
    return GRAD_CAM_MAP if maps.method.startswith(GRAD_CAM_MAP) else _OTHER_MAP


def multiples(raw: NDArray[np.float32], meaning: str = _UNIFORM_ATTENTION) -> MapView:
    """Return a map in multiples of uniform attention, on a logarithmic scale.

    1× is transparent and 100× or more has full colour, in every study and region.

    Examples
    --------
    >>> view = multiples(np.array([[[0.5, 1.0, 10.0, 1000.0]]], np.float32))
    >>> view.data.round(3).tolist(), view.top, [words for _, words in view.ticks]
    ([[[0.0, 0.0, 1.0, 3.0]]], 2.0, ['1×', '10×', '≥ 100×'])
    """
    data = np.zeros_like(raw)
    np.log10(raw, out=data, where=raw > 1.0)
    return MapView(frozen(data), 2.0, _MULTIPLE_TICKS, meaning)


_MULTIPLE_TICKS = ((0.0, "1×"), (1.0, "10×"), (2.0, "≥ 100×"))
_FRACTION_TICKS = ((0.0, "0"), (0.5, "0.5"), (1.0, "1"))


def _linear(volume: Volume, grid: Grid) -> NDArray[np.float32]:
    data = onto(volume.data.astype(np.float32), volume.grid, grid)
    return frozen(data.astype(np.float32))


def onto(data: NDArray[Any], source: Grid, target: Grid, *, nearest: bool = False) -> NDArray[Any]:
    """Resample an array from one grid onto another; 0 outside `source`.

    Parameters
    ----------
    data : (I, J, K) array
        Voxels on `source`.
    nearest : bool
        Nearest neighbour, for labels; else linear.

    Returns
    -------
    (I', J', K') array
        Same dtype, on `target`.
    """
    if source.matches(target):
        return data
    resampled = resample(data.astype(np.float32), source, target, nearest=nearest)
    return np.asarray(resampled).astype(data.dtype)


def cavity_of(analysis: Analysis) -> NDArray[np.bool_]:
    """Return the mask of the resection cavity on the working grid."""
    grid, volumes = analysis.prepared.working, analysis.volumes
    if volumes.cavity is None:
        return np.zeros(grid.shape, bool)
    labels = volumes.all_labels
    return np.asarray(onto(labels.data, labels.grid, grid, nearest=True) == Label.CAVITY)


def axis_aligned(volume: Volume) -> Volume:
    """Resample a volume onto an axis-aligned RAS+ grid.

    Voxels are only reordered if the axes match the patient's to within a quarter of a voxel over
    the whole field of view; otherwise they are resampled linearly at the finest voxel edge.

    Returns
    -------
    Volume
        Diagonal, positive affine; the same millimetres.

    Examples
    --------
    >>> flipped = Grid((4, 5, 6), np.diag([-1.0, -1.0, 2.0, 1.0]))
    >>> np.diag(axis_aligned(Volume(np.zeros((4, 5, 6)), flipped)).affine).tolist()
    [1.0, 1.0, 2.0, 1.0]
    """
    picture = OrientedVolume.of(volume.data, volume.grid)
    data, affine = picture.data, picture.grid.affine
    if tilt(affine, data.shape) > MAX_TILT:
        edge = float(volume.grid.spacing_mm.min())
        ras_affine, shape = geometry.ras_grid(volume.affine, volume.grid.shape, edge)
        grid = Grid(shape, ras_affine, volume.grid.frame_uid)
        return Volume(onto(volume.data, volume.grid, grid), grid)
    aligned = np.diag([*geometry.spacing_mm(affine), 1.0])
    centre = (np.asarray(data.shape) - 1) / 2
    aligned[:3, 3] = geometry.apply(affine, centre) - aligned[:3, :3] @ centre
    return Volume(data, Grid(picture.grid.shape, aligned, volume.grid.frame_uid))


def as_acquired(volume: Volume) -> Volume | None:
    """Return a volume that is too oblique to be shown without resampling, else None."""
    picture = OrientedVolume.of(volume.data, volume.grid)
    return volume if tilt(picture.grid.affine, picture.data.shape) > MAX_TILT else None


def contrast_limits(data: NDArray[np.float32]) -> tuple[float, float]:
    """Return the window of an image: the 1st to 99.5th percentile without background.

    Parameters
    ----------
    data : (I, J, K) float32
        Scanner units; the background has the lowest value. NaN is left out.

    Returns
    -------
    low, high : float
        Always low < high.

    Examples
    --------
    >>> contrast_limits(np.zeros((2, 2, 2), np.float32))
    (0.0, 1.0)
    """
    sample = data[::2, ::2, ::2]
    sample = sample[np.isfinite(sample)]
    if sample.size == 0:
        return 0.0, 1.0
    foreground = sample[sample > sample.min()]
    if foreground.size == 0:
        low = float(sample.min())
        return low, low + 1.0
    low, high = (float(v) for v in np.percentile(foreground, (1.0, 99.5)))
    low = min(low, float(np.percentile(sample, 50)))
    return (low, high) if high > low else (low, low + 1.0)


AXIS_LABELS = ("left–right", "back–front", "bottom–top")
"""Axis labels of layers and sliders; each axis grows towards the second word."""


def grid_of(data: NDArray[Any], scale: ArrayLike, translate: ArrayLike) -> Grid:
    """Return the axis-aligned grid of a layer's voxels, as `geometry_keywords` describes it."""
    affine = np.diag([*np.asarray(scale, np.float64), 1.0])
    affine[:3, 3] = translate
    i, j, k = data.shape
    return Grid((i, j, k), affine)


def geometry_keywords(grid: Grid) -> dict[str, Any]:
    """Return a layer's scale, translate, units and axis labels on an axis-aligned grid."""
    return {
        "scale": tuple(float(edge) for edge in grid.spacing_mm),
        "translate": tuple(float(v) for v in grid.affine[:3, 3]),
        "units": ("mm", "mm", "mm"),
        "axis_labels": AXIS_LABELS,
    }


def image_keywords(data: NDArray[np.float32], grid: Grid) -> dict[str, Any]:
    """Return the keywords of a sequence's image layer, except name and metadata."""
    return geometry_keywords(grid) | {
        "colormap": "gray",
        "contrast_limits": contrast_limits(data),
        "interpolation2d": "linear",
        "rendering": "attenuated_mip",
    }
