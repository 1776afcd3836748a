"""Propagate prompts to similar voxels, without training.

If the analysis is wrong at a prompt, it is probably wrong by a similar amount at nearby voxels of
similar intensity: its logits are shifted by a Gaussian process (Rasmussen and Williams 2006,
equation 2.25) over position and appearance that fits all prompts. The network follows a prompt by
itself, but on less familiar images (one sequence, thick slices) only for a few millimetres: its
correction is propagated within the error.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.geometry import Floats, Mask, clipped_box, is_inside
from lesionlens.base.records.prompts import Points
from lesionlens.engines.prompting.rules import Error

_POSITION_SCALE_MM, _APPEARANCE_SCALE = 20.0, 1.5
"""Length scales of the kernel: position in mm, and appearance in z-scores."""
_MARGIN, _MAX_MARGIN, _NOISE = 0.2, 3.0, 0.05
_SMOOTH_MM, _MIN_PROBABILITY = 0.7, 1e-3
_MAX_PROMPTS = 24
"""Maximum number of prompt voxels used, spread over all."""
_CARRIED_APPEARANCE_SCALE, _CARRIED_DEPTH_SCALE = 1.0, 2.0
"""Length scales of propagation: z-scores, and multiples of a prompt's depth in the error."""
_DEPTH_MM = (1.0, 20.0)


def shifted_logits(
    probability: Floats, smooth: Floats, outline: Mask, prompts: tuple[Points, Points]
) -> Floats:
    """Shift the logits of a crop so that foreground prompts are above zero, background below.

    Parameters
    ----------
    probability : (I, J, K) float32
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
    clipped = np.clip(probability, _MIN_PROBABILITY, 1 - _MIN_PROBABILITY)
    logits = ndimage.gaussian_filter(np.log(clipped / (1 - clipped)), _SMOOTH_MM)
    border = ndimage.binary_dilation(outline) & ~ndimage.binary_erosion(outline)
    if border.any():
        logits -= np.median(logits[border])
    points, signs = _selected_prompts(prompts, probability.shape)
    if not len(points):
        return np.asarray(logits, np.float32)
    index = tuple(points.T)
    shortfall = np.clip(_MARGIN - signs * logits[index], 0, _MAX_MARGIN) * signs
    values = smooth[(slice(None), *index)]
    kernel = np.stack(
        [likeness(p, value, points, values) for p, value in zip(points, values.T, strict=True)]
    )
    coefficients = np.linalg.solve(kernel + _NOISE * np.eye(len(points)), shortfall)
    adjustable = np.abs(logits) <= 2 * _MAX_MARGIN
    for point, value, coefficient in zip(points, values.T, coefficients, strict=True):
        logits += adjustable * (np.float32(coefficient) * similarity_map(point, value, smooth))
    return np.asarray(logits, np.float32)


def propagated_corrections(
    logits: Floats,
    smooth: Floats,
    outline: Mask,
    prompt_errors: Sequence[Error],
    corner: Points,
    weight: float,
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
    prompt_errors : sequence of Error
        Prompts that contradict it, with voxels of the volume.
    corner : (3,) int64
        First voxel of the crop.
    weight : float
        Share of the shift that is applied.

    Returns
    -------
    (I, J, K) float32
    """
    shift = np.zeros_like(logits)
    for error in prompt_errors:
        points = error.points - corner
        points = points[is_inside(points, outline.shape)]
        if not len(points):
            continue
        depth = float(np.clip(error.depth_mm, *_DEPTH_MM))
        reach = 3 * _CARRIED_DEPTH_SCALE * depth
        i, j, k = clipped_box(points.min(0) - reach, points.max(0) + reach, outline.shape)
        sign = np.float32(1 if error.is_foreground else -1)
        signed_logits, images = sign * logits[i, j, k], smooth[:, i, j, k]
        is_wrong, max_shift = outline[i, j, k] != error.is_foreground, np.zeros_like(signed_logits)
        for point in points[:: -(-len(points) // _MAX_PROMPTS)]:
            local_point = point - (i.start, j.start, k.start)
            np.maximum(
                max_shift,
                _shortfall(signed_logits, images, is_wrong, local_point, depth),
                out=max_shift,
            )
        shift[i, j, k] += sign * np.float32(weight) * max_shift
    return np.asarray(logits + shift, np.float32)


def _shortfall(
    signed_logits: Floats, images: Floats, wrong: Mask, point: Points, depth: float
) -> Floats:
    """Return how far the logits of similar voxels are from following a prompt.

    `signed_logits` are positive where the outline follows the prompt.
    """
    similarity = _appearance_similarity(
        images, images[(slice(None), *point)], _CARRIED_APPEARANCE_SCALE
    )
    squared_distance = np.zeros(wrong.shape, np.float32)
    for axis, (position, size) in enumerate(zip(point, wrong.shape, strict=True)):
        squares = ((np.arange(size) - position) ** 2).astype(np.float32)
        squared_distance += np.expand_dims(squares, tuple(n for n in range(3) if n != axis))
    ring = wrong & (squared_distance >= (depth / 2) ** 2) & (squared_distance <= (1.5 * depth) ** 2)
    weight = float(similarity[ring].sum(dtype=np.float64))
    if weight < 1:
        return np.zeros_like(signed_logits)
    mean = float((similarity[ring] * signed_logits[ring]).sum(dtype=np.float64)) / weight
    shortfall = np.float32(np.clip(_MARGIN - mean, 0, _MAX_MARGIN))
    proximity = np.exp(squared_distance / np.float32(-2 * (_CARRIED_DEPTH_SCALE * depth) ** 2))
    return np.asarray(shortfall * similarity * proximity, np.float32)


def _appearance_similarity(images: Floats, reference: Floats, scale: float) -> Floats:
    """Return how similar every voxel of (C, I, J, K) images is to (C,) values: 0 to 1."""
    similarity = np.zeros(images.shape[1:], np.float32)
    for image, value in zip(images, reference, strict=True):
        similarity += np.square(image - value)
    similarity *= np.float32(-1 / (2 * scale**2))
    return np.exp(similarity, out=similarity)


def similarity_map(point: Points, reference: Floats, images: Floats) -> Floats:
    """Return the kernel between every voxel of (C, I, J, K) images and one voxel."""
    similarity = _appearance_similarity(images, reference, _APPEARANCE_SCALE)
    for axis, position in enumerate(point):
        proximity = np.exp(
            -((np.arange(similarity.shape[axis]) - position) ** 2) / (2 * _POSITION_SCALE_MM**2)
        ).astype(np.float32)
        similarity *= np.expand_dims(proximity, tuple(n for n in range(3) if n != axis))
    return similarity


def likeness(
    point: Points, reference: Floats, points: Points, values: Floats
) -> NDArray[np.float64]:
    """Return the kernel between (N, 3) voxels with (C, N) values and one voxel with (C,) values."""
    squared_distance = ((points - point) ** 2).sum(1) / _POSITION_SCALE_MM**2
    squared_difference = ((values - reference[:, None]) ** 2).sum(0) / _APPEARANCE_SCALE**2
    return np.asarray(np.exp(-(squared_distance + squared_difference) / 2), np.float64)


def _selected_prompts(
    prompts: tuple[Points, Points], shape: tuple[int, ...]
) -> tuple[Points, NDArray[np.float64]]:
    points = np.concatenate(prompts)
    signs = np.repeat([1.0, -1.0], [len(group) for group in prompts])
    inside = is_inside(points, shape)
    points, signs = points[inside], signs[inside]
    step = max(1, -(-len(points) // _MAX_PROMPTS))
    return points[::step], signs[::step]
