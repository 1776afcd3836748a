"""Slices for images of a candidate: grey values, labels, attention.

Pictures are rendered from the working grid (RAS+, 1 mm cubes); labels and attention on the native
grid are sampled at the nearest voxel. A picture is (rows, columns) in radiological convention:
the patient's right is on the left of axial and coronal views, anterior on the left of sagittal
ones, and superior or anterior is up.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.geometry import bounding_box
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.records.analysis import Analysis

MARGIN_VOX = 12
"""Margin around the brain, to include skull and scalp if present."""
WINDOW_PERCENT = (1.0, 99.2)
"""Intensity percentiles of the brain shown as black and white."""

Span = tuple[int, int]


class ViewPlane(StrEnum):
    """A viewing plane of the working grid."""

    AXIAL = "axial"
    CORONAL = "coronal"
    SAGITTAL = "sagittal"

    @property
    def fixed(self) -> int:
        """The working axis perpendicular to the plane."""
        return {"axial": 2, "coronal": 1, "sagittal": 0}[self.value]

    @property
    def markers(self) -> tuple[str, str]:
        """Directions of the image's left and right edge."""
        return ("A", "P") if self is ViewPlane.SAGITTAL else ("R", "L")

    def upright(self, plane: NDArray[Any]) -> NDArray[Any]:
        """Convert a slice's two working axes to (rows, columns) in radiological convention.

        Examples
        --------
        >>> ViewPlane.AXIAL.upright(np.array([[0, 1], [2, 3]]))
        array([[3, 1],
               [2, 0]])
        """
        return np.asarray(plane[::-1, ::-1].T)


@dataclass(frozen=True, slots=True)
class Cut:
    """One slice of the working grid: the plane and its index along the fixed axis."""

    plane: ViewPlane
    index: int


class SliceScene:
    """Slices of one analysis; everything is computed once, on demand."""

    def __init__(self, analysis: Analysis) -> None:
        self._analysis = analysis
        self._prepared = analysis.prepared
        self.images = analysis.prepared.images

    @cached_property
    def spans(self) -> tuple[Span, Span, Span]:
        """Start and stop working index of the brain with a margin, along each axis."""
        brain = self._prepared.brain
        box = bounding_box(brain, MARGIN_VOX) or tuple(slice(0, n) for n in brain.shape)
        i, j, k = ((side.start, side.stop) for side in box)
        return i, j, k

    @cached_property
    def windows(self) -> dict[MrSequence, tuple[float, float]]:
        """Intensities shown as black and white, by sequence."""
        coarse = (slice(None, None, 2),) * 3
        inside = self._prepared.brain[coarse]
        windows_by_sequence = {}
        for sequence, image in self.images.items():
            values = image[coarse][inside] if inside.any() else image[coarse].ravel()
            low, high = np.percentile(values, WINDOW_PERCENT)
            windows_by_sequence[sequence] = (float(low), max(float(high), float(low) + 1e-6))
        return windows_by_sequence

    @property
    def edge_mm(self) -> float:
        """Edge of a working voxel, mm."""
        return float(self._prepared.working.spacing_mm[0])

    def position_mm(self, cut: Cut) -> float:
        """Return a slice's position along its axis, RAS+ mm."""
        axis = cut.plane.fixed
        affine = self._prepared.working.affine
        return float(affine[axis, axis] * cut.index + affine[axis, 3])

    def cuts(self, candidate: int) -> dict[ViewPlane, Cut]:
        """Return the slice of each plane with most of a candidate.

        Parameters
        ----------
        candidate : int
            Its id in `findings.components`.
        """
        voxels = np.argwhere(self._analysis.findings.components == candidate)
        from_native = np.linalg.inv(self._prepared.to_native)
        positions = np.rint(voxels @ from_native[:3, :3].T + from_native[:3, 3]).astype(int)
        cuts = {}
        for plane in ViewPlane:
            length = self._prepared.working.shape[plane.fixed]
            indices = np.clip(positions[:, plane.fixed], 0, length - 1)
            counts = np.bincount(indices, minlength=length) if indices.size else np.zeros(length)
            largest = np.flatnonzero(counts == counts.max())
            cuts[plane] = Cut(plane, int(largest[len(largest) // 2]))
        return cuts

    def overview(self, count: int) -> tuple[Cut, ...]:
        """Return axial slices evenly spread over the brain, from below upwards."""
        low, high = self.spans[ViewPlane.AXIAL.fixed]
        inner = np.linspace(low + MARGIN_VOX, high - MARGIN_VOX - 1, count + 2)[1:-1]
        return tuple(Cut(ViewPlane.AXIAL, round(float(k))) for k in inner)

    def grey(self, sequence: MrSequence, cut: Cut) -> NDArray[np.uint8]:
        """Return a slice of a sequence as (rows, columns) uint8."""
        low, high = self.windows[sequence]
        scaled = (self._crop(self.images[sequence], cut) - low) * (255.0 / (high - low))
        return np.asarray(np.clip(scaled, 0, 255), dtype=np.uint8)

    def region(self, region: Region, cut: Cut) -> NDArray[np.bool_]:
        """Return the mask of a region on a slice, of all candidates, (rows, columns)."""
        return np.isin(self._sample_native(self._analysis.volumes.labels.data, cut), region.labels)

    def cavity(self, cut: Cut) -> NDArray[np.bool_] | None:
        """Return the mask of the resection cavity on a slice, (rows, columns); None without one."""
        cavity = self._analysis.volumes.cavity
        return None if cavity is None else np.asarray(self._sample_native(cavity.data, cut), bool)

    def candidate(self, number: int, cut: Cut) -> NDArray[np.bool_]:
        """Return the mask of one candidate on a slice, (rows, columns)."""
        return np.asarray(self._sample_native(self._analysis.findings.components, cut) == number)

    def attention(self, region: Region, cut: Cut) -> NDArray[np.float32] | None:
        """Return a region's attention on a slice, 0 to 1, (rows, columns); None without a map."""
        maps = self._analysis.maps
        if maps is not None and region in maps.maps:
            return np.asarray(self._crop(maps.maps[region], cut), dtype=np.float32)
        volume = self._analysis.volumes.attention.get(region)
        if volume is None:
            return None
        return np.asarray(self._sample_native(volume.data, cut), np.float32)

    def full_scale(self, region: Region) -> float:
        """Return the raw value of a map's 1 in multiples of uniform attention; 0 if unknown."""
        return 0.0 if self._analysis.maps is None else self._analysis.maps.scale_of(region)

    def _crop(self, volume: NDArray[Any], cut: Cut) -> NDArray[Any]:
        index: list[slice | int] = [slice(*span) for span in self.spans]
        index[cut.plane.fixed] = cut.index
        return cut.plane.upright(volume[tuple(index)])

    def _sample_native(self, volume: NDArray[Any], cut: Cut) -> NDArray[Any]:
        """Sample a native volume at each working voxel of a slice; 0 outside it."""
        axes = [np.arange(*span) for span in self.spans]
        axes[cut.plane.fixed] = np.array([cut.index])
        indices, to_native = np.ix_(*axes), self._prepared.to_native
        coordinates = [
            sum(to_native[row, axis] * indices[axis] for axis in range(3)) + to_native[row, 3]
            for row in range(3)
        ]
        nearest = [np.rint(part).astype(np.intp) for part in coordinates]
        inside = np.ones((), dtype=bool)
        for part, length in zip(nearest, volume.shape, strict=True):
            inside = inside & (part >= 0) & (part < length)
        clipped = [np.clip(p, 0, n - 1) for p, n in zip(nearest, volume.shape, strict=True)]
        sampled = np.where(inside, volume[clipped[0], clipped[1], clipped[2]], 0)
        return cut.plane.upright(np.squeeze(sampled, axis=cut.plane.fixed))
