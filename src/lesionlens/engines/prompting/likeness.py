"""Propagate prompts to similar voxels, without training.

If the analysis is wrong at a prompt, it is probably wrong by a similar amount at nearby voxels of
similar intensity: its logits are shifted by a Gaussian process (Rasmussen and Williams 2006,
equation 2.25) over position and appearance that fits all prompts. The network follows a prompt
itself, but on images that it knows less (one sequence, thick slices) only some millimetres far:
its answer is carried on within the error.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.geometry import clipped_box
from lesionlens.base.records.prompts import Points
from lesionlens.engines.prompting.rules import Error, is_inside

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
_NEAR_MM, _ALIKE = 20.0, 1.5
"""Length scales of the kernel: position in mm, and appearance in z-scores."""
_MARGIN, _MAX_MARGIN, _NOISE = 0.2, 3.0, 0.05
_SMOOTH_MM, _SHARPEST = 0.7, 1e-3
_PROMPTS = 24
"""Maximum number of prompt voxels used, spread over all."""
_CARRIED_ALIKE, _CARRIED_DEPTHS = 1.0, 2.0
"""Length scales of what is carried on: z-scores, and multiples of a prompt's depth in the error."""
_DEPTH_MM = (1.0, 20.0)


def shifted_logits(
    chance: Floats, smooth: Floats, outline: Mask, prompts: tuple[Points, Points]
) -> Floats:
    """Shift the logits of a crop so that foreground prompts are above zero, background below.

    Parameters
    ----------
    chance : (I, J, K) float32
        Predicted probability.
    smooth : (C, I, J, K) float32
        z-scores with less noise, voxels of 1 mm; see `PromptStudy.smooth`.
    outline : (I, J, K) bool
        The current outline; logits are zero at its border.
    prompts : two (N, 3) int64
        Foreground and background voxels of the crop.

    Returns
    -------
    (I, J, K) float32
    """
    held = np.clip(chance, _SHARPEST, 1 - _SHARPEST)
    logits = ndimage.gaussian_filter(np.log(held / (1 - held)), _SMOOTH_MM)
    border = ndimage.binary_dilation(outline) & ~ndimage.binary_erosion(outline)
    if border.any():
        logits -= np.median(logits[border])
    points, signs = _chosen(prompts, chance.shape)
    if not len(points):
        return np.asarray(logits, np.float32)
    at = tuple(points.T)
    missing = np.clip(_MARGIN - signs * logits[at], 0, _MAX_MARGIN) * signs
    seen = smooth[(slice(None), *at)]
    known = np.stack(
        [likeness(p, here, points, seen) for p, here in zip(points, seen.T, strict=True)]
    )
    shares = np.linalg.solve(known + _NOISE * np.eye(len(points)), missing)
    open_ = np.abs(logits) <= 2 * _MAX_MARGIN
    for point, here, share in zip(points, seen.T, shares, strict=True):
        logits += open_ * (np.float32(share) * likeness_map(point, here, smooth))
    return np.asarray(logits, np.float32)


def carried_on(
    logits: Floats,
    smooth: Floats,
    outline: Mask,
    wrong: Sequence[Error],
    corner: Points,
    share: float,
) -> Floats:
    """Carry corrections on to voxels like those at the prompts, about as far as the error is deep.

    The shift is what such voxels, half to one and a half depths away and on the outline's wrong
    side, lack to follow the prompt. Where the network follows it there already, nothing changes.

    Parameters
    ----------
    logits : (I, J, K) float32
        The answer of a crop.
    smooth : (C, I, J, K) float32
        z-scores with less noise, voxels of 1 mm; see `PromptStudy.smooth`.
    outline : (I, J, K) bool
        The outline to be corrected.
    wrong : sequence of Error
        Prompts that contradict it, with voxels of the volume.
    corner : (3,) int64
        First voxel of the crop.
    share : float
        Share of the shift that is applied.

    Returns
    -------
    (I, J, K) float32
    """
    shift = np.zeros_like(logits)
    for error in wrong:
        points = error.points - corner
        points = points[is_inside(points, outline.shape)]
        if not len(points):
            continue
        depth = float(np.clip(error.depth_mm, *_DEPTH_MM))
        reach = 3 * _CARRIED_DEPTHS * depth
        i, j, k = clipped_box(points.min(0) - reach, points.max(0) + reach, outline.shape)
        sign = np.float32(1 if error.belongs else -1)
        agreed, seen = sign * logits[i, j, k], smooth[:, i, j, k]
        side, most = outline[i, j, k] != error.belongs, np.zeros_like(agreed)
        for point in points[:: max(1, -(-len(points) // _PROMPTS))]:
            here = point - (i.start, j.start, k.start)
            np.maximum(most, _lacking(agreed, seen, side, here, depth), out=most)
        shift[i, j, k] += sign * np.float32(share) * most
    return np.asarray(logits + shift, np.float32)


def _lacking(agreed: Floats, images: Floats, wrong: Mask, point: Points, depth: float) -> Floats:
    """Return what voxels like a prompt's lack to follow it; `agreed` are logits of its sign."""
    alike = _alike(images, images[(slice(None), *point)], _CARRIED_ALIKE)
    far = np.zeros(wrong.shape, np.float32)
    for axis, (at, size) in enumerate(zip(point, wrong.shape, strict=True)):
        away = ((np.arange(size) - at) ** 2).astype(np.float32)
        far += np.expand_dims(away, tuple(n for n in range(3) if n != axis))
    ring = wrong & (far >= (depth / 2) ** 2) & (far <= (1.5 * depth) ** 2)
    weight = float(alike[ring].sum(dtype=np.float64))
    if weight < 1:
        return np.zeros_like(agreed)
    mean = float((alike[ring] * agreed[ring]).sum(dtype=np.float64)) / weight
    missing = np.float32(np.clip(_MARGIN - mean, 0, _MAX_MARGIN))
    near = np.exp(far / np.float32(-2 * (_CARRIED_DEPTHS * depth) ** 2))
    return np.asarray(missing * alike * near, np.float32)


def _alike(images: Floats, here: Floats, scale: float) -> Floats:
    """Return how similar every voxel of (C, I, J, K) images is to (C,) values: 0 to 1."""
    out = np.zeros(images.shape[1:], np.float32)
    for image, value in zip(images, here, strict=True):
        out += np.square(image - value)
    out *= np.float32(-1 / (2 * scale**2))
    return np.exp(out, out=out)


def likeness_map(point: Points, here: Floats, images: Floats) -> Floats:
    """Return the kernel between every voxel of (C, I, J, K) images and one voxel."""
    out = _alike(images, here, _ALIKE)
    for axis, at in enumerate(point):
        near = np.exp(-((np.arange(out.shape[axis]) - at) ** 2) / (2 * _NEAR_MM**2)).astype(
            np.float32
        )
        out *= np.expand_dims(near, tuple(n for n in range(3) if n != axis))
    return out


def likeness(point: Points, here: Floats, points: Points, values: Floats) -> NDArray[np.float64]:
    """Return the kernel between (N, 3) voxels with (C, N) values and one voxel with (C,) values."""
    far = ((points - point) ** 2).sum(1) / _NEAR_MM**2
    unlike = ((values - here[:, None]) ** 2).sum(0) / _ALIKE**2
    return np.asarray(np.exp(-(far + unlike) / 2), np.float64)


def _chosen(
    prompts: tuple[Points, Points], shape: tuple[int, ...]
) -> tuple[Points, NDArray[np.float64]]:
    points = np.concatenate(prompts)
    signs = np.repeat([1.0, -1.0], [len(one) for one in prompts])
    inside = is_inside(points, shape)
    points, signs = points[inside], signs[inside]
    step = max(1, -(-len(points) // _PROMPTS))
    return points[::step], signs[::step]
