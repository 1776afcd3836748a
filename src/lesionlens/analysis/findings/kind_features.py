"""Features of a candidate that distinguish kinds of lesions, measured on a 2 mm lattice.

Intensities are relative to the rest of the brain, so that neither unit nor scanner matters; shape,
depth and distances are in mm. No network is involved.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.analysis.findings import anatomy
from lesionlens.base.geometry import TOUCHING, Affine, Floats, Mask, bounding_box
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.masks import connected_parts, depth_inside
from lesionlens.base.numerics import robust_spread
from lesionlens.base.records.study import PreparedStudy
from lesionlens.imaging.preparation.display_images import match_intensities
from lesionlens.imaging.preparation.resampling import cube_means

Features = dict[str, float]
LATTICE_MM: Final = 2.0
_LOW_QUANTILE, _HIGH_QUANTILE = 0.02, 0.98
"""Quantiles of the rest of the brain that become -1 and 1; its median becomes 0."""
_MAX_LEVEL = 4.0
_STRIDE = 5
"""Every n-th voxel of the rest of the brain is used for quantiles."""
_SHELL_MM, _SURFACE_MM = 5.0, 4.0
_MIN_T1C_LEVEL, _MIN_UPTAKE = 1.0, 3.0
"""Minimum level of T1c, and minimum uptake (robust deviations), of an enhancing voxel."""
_MIN_FLUID_LEVEL, _MAX_FLAIR_LEVEL = 0.7, 0.0
_MIN_PIECE_VOX = 4
"""Minimum voxels of an enhancing piece that is counted."""
_VENTRICLE_AXIS = np.array([[12.0, -36.0, 14.0], [12.0, 24.0, 10.0]])
"""MNI mm: ends of a line along the body of the lateral ventricle, on either side."""
_MARGIN_VOX = 4
"""Margin of a candidate's box, for its surroundings."""
_TIE_BREAK = 1e-3 * np.array([-1.0, -1.0, 1.0])
"""Offset in lattice voxels, to the left, back and top. Lattice centres lie midway between native
voxels; the offset makes the choice between them independent of the storage order."""


@dataclass(frozen=True, slots=True, eq=False)
class CoarseBrain:
    """The brain of a study at 2 mm, before its candidates are known."""

    images: Mapping[MrSequence, Floats]
    """(I, J, K) float32 each, in scanner units."""
    brain: Mask
    depth_mm: Floats
    """(I, J, K) float32: distance from outside the brain."""
    grid: Grid
    head: anatomy.Head
    to_native: Affine
    """(4, 4) float64: index on this grid to index on the native grid."""

    def sampled(self, numbers: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return a native volume at the centres of this grid's voxels."""
        matrix, offset = self.to_native[:3, :3], self.to_native[:3, 3]
        values: NDArray[np.int32] = ndimage.affine_transform(
            numbers, matrix, offset + matrix @ _TIE_BREAK, output_shape=self.grid.shape, order=0
        )
        return values


@dataclass(frozen=True, slots=True, eq=False)
class Lattice:
    """A study at 2 mm with its candidates, and reference intensities outside of them."""

    coarse: CoarseBrain
    numbers: NDArray[np.int32]
    """(I, J, K) int32: number of the candidate, 0 elsewhere."""
    percentiles: Mapping[MrSequence, tuple[float, float, float]]
    """2nd, 50th and 98th percentile of each image in the rest of the brain."""
    matching: tuple[float, float, float] | None
    """Scale and offset that match T1 to T1c there, and the robust deviation that remains; None
    without both."""

    def levels(self, sequence: MrSequence, values: Floats) -> Floats:
        """Return intensities as levels: -1, 0 and 1 at `percentiles`."""
        low, median, high = self.percentiles[sequence]
        difference = values - np.float32(median)
        above, below = np.float32(max(high - median, 1e-6)), np.float32(max(median - low, 1e-6))
        scaled = np.where(difference > 0, difference / above, difference / below)
        return np.clip(scaled, -_MAX_LEVEL, _MAX_LEVEL)

    def uptake(self, before: Floats, after: Floats) -> Floats:
        """Return what T1c adds to T1, in robust deviations."""
        scale, offset, spread = self.matching or (1.0, 0.0, 1.0)
        added = after - (np.float32(scale) * before + np.float32(offset))
        return np.asarray(np.clip(added / np.float32(spread), -10, 30), np.float32)


def coarse_of(prepared: PreparedStudy, head: anatomy.Head) -> CoarseBrain | None:
    """Return the brain of a prepared study at 2 mm; None if its brain is not outlined."""
    box = prepared.brain_box
    if box is None:
        return None
    working = prepared.working
    step = max(1, round(LATTICE_MM / float(working.spacing_mm[0])))
    fraction, grid = cube_means(prepared.brain, working, box, step)
    images = {
        sequence: cube_means(image, working, box, step)[0]
        for sequence, image in prepared.images.items()
    }
    to_working = np.diag([step, step, step, 1.0])  # exact: centres lie between native voxels
    to_working[:3, 3] = [side.start + (step - 1) / 2 for side in box]
    brain = fraction >= 0.5
    return CoarseBrain(
        images, brain, depth_of(brain, grid), grid, head, prepared.to_native @ to_working
    )


def depth_of(brain: Mask, grid: Grid) -> Floats:
    """Return the distance of each voxel from outside the brain, mm; holes are filled."""
    depth = depth_inside(ndimage.binary_fill_holes(brain), grid.spacing_mm)
    return np.asarray(depth, np.float32)


def lattice_of(coarse: CoarseBrain, numbers: NDArray[np.int32]) -> Lattice:
    """Return a brain with its candidates; `numbers` are on its grid."""
    normal = np.flatnonzero(coarse.brain & (numbers == 0))[::_STRIDE]
    if not normal.size:
        normal = np.flatnonzero(coarse.brain)
    values = {sequence: image.ravel()[normal] for sequence, image in coarse.images.items()}
    percentiles = {
        s: tuple(np.quantile(v, (_LOW_QUANTILE, 0.5, _HIGH_QUANTILE)).tolist())
        for s, v in values.items()
    }
    matching = None
    if MrSequence.T1 in values and MrSequence.T1C in values:
        before, after = values[MrSequence.T1], values[MrSequence.T1C]
        scale, offset = match_intensities(before, after)
        spread = max(robust_spread(after - (scale * before + offset)), 1e-6)
        matching = scale, offset, spread
    return Lattice(coarse, numbers, percentiles, matching)


def features_by_id(
    prepared: PreparedStudy, components: NDArray[np.int32], ids: Collection[int]
) -> Mapping[int, Features | None]:
    """Measure the requested candidates, as `features_of` does; None for each without a brain mask.

    Parameters
    ----------
    components : (I, J, K) int32
        Id of the candidate at each voxel of the native grid, 0 elsewhere.
    """
    head = anatomy.head_of(prepared) if ids else None
    coarse = None if head is None or not head.whole else coarse_of(prepared, head)
    if coarse is None:
        return dict.fromkeys(ids)
    lattice = lattice_of(coarse, coarse.sampled(components))
    return {number: features_of(lattice, number) for number in ids}


def features_of(lattice: Lattice, number: int) -> Features | None:
    """Measure one candidate; None if it has no voxel on the lattice.

    Returns
    -------
    dict of str to float
        By name; `uptake.*` only with T1 and T1c, names of a sequence only with that one.
    """
    box = bounding_box(lattice.numbers == number, _MARGIN_VOX)
    if box is None:
        return None
    mask = lattice.numbers[box] == number
    spacing = lattice.coarse.grid.spacing_mm
    depth_mm = depth_inside(mask, spacing)
    distance_mm = ndimage.distance_transform_edt(~mask, sampling=spacing)
    shell = (
        (distance_mm > 0)
        & (distance_mm <= _SHELL_MM)
        & lattice.coarse.brain[box]
        & (lattice.numbers[box] == 0)
    )
    view = _CandidateView(lattice, box, mask, depth_mm, shell)
    features = {
        **_count_features(lattice, number),
        **_shape_features(view),
        **_position_features(view),
    }
    for sequence in lattice.coarse.images:
        features |= _intensity_features(view, sequence)
    return features | _enhancement_features(view) | _fluid_features(view)


@dataclass(frozen=True, slots=True, eq=False)
class _CandidateView:
    """One candidate in its box."""

    lattice: Lattice
    box: tuple[slice, slice, slice]
    mask: Mask
    inner_mm: NDArray[np.float64]
    """Distance of its voxels from outside of it."""
    shell: Mask
    """Brain next to it that belongs to no candidate."""

    @property
    def coarse(self) -> CoarseBrain:
        return self.lattice.coarse

    def level(self, sequence: MrSequence) -> Floats:
        """Return the levels of a sequence in the box."""
        return self.lattice.levels(sequence, self.coarse.images[sequence][self.box])


def _count_features(lattice: Lattice, number: int) -> Features:
    volumes = np.bincount(lattice.numbers.ravel()).astype(float)[1:]
    own_volume, present_volumes = volumes[number - 1], volumes[volumes > 0]
    return {
        "count": float(np.log(len(present_volumes))),
        "others": float(np.log((present_volumes.sum() - own_volume) / own_volume + 0.05)),
        "rank": float((present_volumes > own_volume).mean()),
    }


def _shape_features(view: _CandidateView) -> Features:
    mask, spacing = view.mask, view.coarse.grid.spacing_mm
    voxels = np.count_nonzero(mask)
    points = np.argwhere(mask) * spacing
    spread = np.cov(points.T) if voxels > 1 else np.zeros((3, 3))
    axes = np.sqrt(np.linalg.eigvalsh(spread + np.diag(spacing**2) / 12))[::-1]
    volume = voxels * float(np.prod(spacing))
    return {
        "log_ml": float(np.log(voxels * view.coarse.grid.voxel_ml)),
        "sphericity": sphericity(mask),
        "elongation": float(np.log(axes[0] / axes[2])),
        "flatness": float(np.log(axes[1] / axes[2])),
        "fill": float(np.log(volume / (4 / 3 * np.pi * 5**1.5 * axes.prod()))),
        "thickness": float(np.log(view.inner_mm.max() / volume ** (1 / 3))),
    }


def sphericity(mask: Mask) -> float:
    """Return the faces of a ball's voxels of the same volume over those of a mask.

    About 1 for a ball, less for anything else.
    """
    voxels = np.count_nonzero(mask)
    faces = sum(np.count_nonzero(np.diff(np.pad(mask, 1), axis=axis)) for axis in range(3))
    ball = 1.5 * (36 * np.pi) ** (1 / 3) * voxels ** (2 / 3)
    return float(ball / max(faces, 1))


def _position_features(view: _CandidateView) -> Features:
    depth = view.coarse.depth_mm[view.box][view.mask].astype(np.float64)
    is_border = view.inner_mm[view.mask] <= 1.01 * view.coarse.grid.spacing_mm.max()
    points = _points_mm(view)
    mni = view.coarse.head.to_mni(points)
    mni[:, 0] = np.abs(mni[:, 0])
    start, direction = _VENTRICLE_AXIS[0], _VENTRICLE_AXIS[1] - _VENTRICLE_AXIS[0]
    fraction = np.clip((mni - start) @ direction / (direction @ direction), 0, 1)
    distances = np.linalg.norm(mni - start - fraction[:, None] * direction, axis=1)
    depth_range = max(float(np.ptp(depth)), 1.0)
    return {
        "depth_least": float(depth.min()),
        "depth_most": float(depth.max()),
        "wedge": float((depth.mean() - depth.min()) / depth_range),
        "at_surface": float((depth <= _SURFACE_MM).mean()),
        "border_at_surface": float((depth[is_border] <= _SURFACE_MM).mean()),
        "axis_least": float(np.quantile(distances, 0.02)),
        "axis_mean": float(distances.mean()),
        "height": float(mni[:, 2].mean()),
        "midline": float(mni[:, 0].mean()),
    }


def _points_mm(view: _CandidateView) -> NDArray[np.float64]:
    low = [side.start for side in view.box]
    return np.asarray(view.coarse.grid.to_mm(np.argwhere(view.mask) + low), dtype=np.float64)


def _intensity_features(view: _CandidateView, sequence: MrSequence) -> Features:
    image, name = view.level(sequence), sequence.value
    values = image[view.mask]
    low, median, high = np.quantile(values, (0.1, 0.5, 0.9))
    shell_mean = float(image[view.shell].mean()) if view.shell.any() else 0.0
    return {
        f"{name}.low": float(low),
        f"{name}.median": float(median),
        f"{name}.high": float(high),
        f"{name}.inner": _inner_excess(view, values),
        f"{name}.contrast": float(values.mean()) - shell_mean,
        f"{name}.asymmetry": float(values.mean() - _mirrored(view, sequence).mean()),
    }


def _inner_excess(view: _CandidateView, values: Floats) -> float:
    """Return the mean of (N,) values in a candidate's inner half minus that in its outer half."""
    deep = view.inner_mm[view.mask] > np.median(view.inner_mm[view.mask])
    inner = float(values[deep].mean()) if deep.any() else float(values.mean())
    return inner - float(values[~deep].mean())


def _mirrored(view: _CandidateView, sequence: MrSequence) -> Floats:
    """Return the levels at the mirror image of the candidate."""
    coarse = view.coarse
    points_mm = coarse.head.mirrored(_points_mm(view))
    i, j, k = coarse.grid.nearest_voxel(points_mm, clip=True).T
    return view.lattice.levels(sequence, coarse.images[sequence][i, j, k])


def _enhancement_features(view: _CandidateView) -> Features:
    images = view.coarse.images
    features: Features = {}
    if MrSequence.T1C in images:
        features |= _part_features("bright", view, view.level(MrSequence.T1C), _MIN_T1C_LEVEL)
    if view.lattice.matching is not None:
        before, after = (images[s][view.box] for s in (MrSequence.T1, MrSequence.T1C))
        features |= _part_features("uptake", view, view.lattice.uptake(before, after), _MIN_UPTAKE)
    return features


def _part_features(name: str, view: _CandidateView, values: Floats, threshold: float) -> Features:
    """Measure size, evenness and shape of the part of a candidate above a threshold."""
    part = view.mask & (values > threshold)
    count, whole = int(part.sum()), int(view.mask.sum())
    closed = ndimage.binary_fill_holes(ndimage.binary_closing(np.pad(part, 2), TOUCHING))
    _, piece_sizes = connected_parts(part)
    depth = view.coarse.depth_mm[view.box]
    inside = values[view.mask]
    part_values = values[part] if count else np.array([threshold])
    return {
        f"{name}.share": count / whole,
        f"{name}.log_ml": float(np.log(count * view.coarse.grid.voxel_ml + 0.02)),
        f"{name}.mean": float(inside.mean()),
        f"{name}.high": float(np.quantile(inside, 0.9)),
        f"{name}.inner": _inner_excess(view, inside),
        f"{name}.even": float(part_values.std() / max(abs(float(part_values.mean())), 0.1)),
        f"{name}.hollow": 1 - count / max(int(closed.sum()), 1) if count else 0.0,
        f"{name}.pieces": float(np.log1p((piece_sizes >= _MIN_PIECE_VOX).sum())),
        f"{name}.sphericity": sphericity(part) if count else 0.0,
        f"{name}.at_surface": float((depth[part] <= _SURFACE_MM).mean()) if count else 0.0,
    }


def _fluid_features(view: _CandidateView) -> Features:
    """Return the shares of a candidate that look like cerebrospinal fluid, by pairs of images."""
    levels = {s: view.level(s)[view.mask] for s in view.coarse.images}
    if MrSequence.FLAIR not in levels:
        return {}
    dark, features = levels[MrSequence.FLAIR] < _MAX_FLAIR_LEVEL, {}
    if MrSequence.T2 in levels:
        features["fluid.t2"] = float((dark & (levels[MrSequence.T2] > _MIN_FLUID_LEVEL)).mean())
    if MrSequence.T1 in levels:
        features["fluid.t1"] = float((dark & (levels[MrSequence.T1] < -_MIN_FLUID_LEVEL)).mean())
    return features
