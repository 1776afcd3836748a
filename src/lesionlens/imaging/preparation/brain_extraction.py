"""Brain extraction from images with skull by a small built-in network.

The network, trained on synthetic images of random contrast (`network.brain`,
`research/train_brain.py`), segments each sequence separately, and the logits are averaged. HD-BET
or SynthStrip can be used instead, if installed (`preparation.skull_stripping`).
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.geometry import bounding_box, ras_grid
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.imaging.preparation.brain import (
    BrainMask,
    fill_holes,
    is_even,
    largest,
    may_be_whole,
)
from lesionlens.imaging.preparation.resampling import HALF, block_means, cut_grid, resample
from lesionlens.network.brain import SPACING_MM, brain_logits, scaled
from lesionlens.network.shipped_unet import MULTIPLE

METHOD = "own network"
FINER = 2
"""The outline is computed on voxels of this fraction of the network's voxel edge."""
SURE = 2.0
"""Logit at which a voxel is certainly brain (probability .88)."""
MIN_ML, MIN_SHARE = 15.0, 0.03
"""Minimum certain brain volume of a scan, and its minimum share of the bright voxels."""
SURE_SHARE = 0.7
"""Minimum certain share of a head's mask: .83 and more in real heads, .02 to .4 in bottles of
water.
"""


def reading_grid(native: Grid) -> Grid:
    """Return the axis-aligned RAS+ grid of the network's input for a field of view."""
    affine, shape = ras_grid(native.affine, native.shape, SPACING_MM)
    return Grid(shape, affine, native.frame_uid)


def logits_of(
    images: Sequence[NDArray[np.float32]],
) -> Generator[NDArray[np.float32], None, None]:
    """Yield the logit of brain in each image on `reading_grid`, (I, J, K) float32."""
    padded, kept = [], []
    for image in images:
        room = [-length % MULTIPLE for length in image.shape]
        sides = [(extra // 2, extra - extra // 2) for extra in room]
        wide = np.pad(image.astype(np.float32, copy=False), sides)
        padded.append(scaled(wide.clip(0)[None, None])[0, 0])
        inside = zip(sides, image.shape, strict=True)
        kept.append(tuple(slice(before, before + length) for (before, _), length in inside))
    for logit, own in zip(brain_logits(padded), kept, strict=True):
        yield np.ascontiguousarray(logit[own])


def brain_logit(
    images: Mapping[MrSequence, NDArray[np.float32]], *, context: RunContext = SILENT
) -> NDArray[np.float32]:
    """Average the brain logits of all sequences, each within its field of view.

    Parameters
    ----------
    images : mapping of MrSequence to (I, J, K) float32
        The sequences on `reading_grid`, the reference first; zero outside a field of view.

    Returns
    -------
    (I, J, K) float32
        Above zero where brain is more likely than not.
    """
    shown = list(images.values())
    total, weight = 0.0, 0.0
    with closing(logits_of(shown)) as logits:  # cancelled: no further pass is started
        for image in shown:
            context.check("finding the brain")
            seen = (image != 0).astype(np.float32) + np.float32(1e-3)
            total = total + seen * next(logits)
            weight = weight + seen
    return np.asarray(total / weight, dtype=np.float32)


def find_brain(
    images: Mapping[MrSequence, NDArray[np.float32]], grid: Grid, *, context: RunContext = SILENT
) -> BrainMask:
    """Segment the brain in images with skull.

    Parameters
    ----------
    images : mapping of MrSequence to (I, J, K) float32
        As for `brain_logit`.
    grid : Grid
        From `reading_grid`.

    Returns
    -------
    BrainMask
        On a grid finer than `grid`, cropped to the brain; empty if no brain is found.
    """
    logit = brain_logit(images, context=context)
    doubt = _reason_not_a_brain(logit, next(iter(images.values())), grid)
    if doubt is not None:
        return BrainMask(np.zeros(grid.shape, dtype=bool), grid, METHOD, doubt)
    return outlined(logit, grid)


def _reason_not_a_brain(
    logit: NDArray[np.float32], image: NDArray[np.float32], grid: Grid
) -> str | None:
    """Return why this is not a scan of a brain, or None."""
    sure_ml = grid.volume_ml(logit > SURE)
    lit = image > 0.1 * float(np.quantile(image[::2, ::2, ::2], 0.99))
    object_ml = grid.volume_ml(lit)
    part = largest(logit > 0)
    part_ml = grid.volume_ml(part)
    if sure_ml < SURE_SHARE * part_ml and is_even(image, part):
        return f"an object of one even material, {part_ml:.0f} ml"
    if sure_ml >= max(MIN_ML, MIN_SHARE * object_ml):
        return None
    return f"{sure_ml:.0f} of {object_ml:.0f} ml look like brain"


def outlined(logit: NDArray[np.float32], grid: Grid) -> BrainMask:
    """Threshold a logit map at zero on a finer grid: one component without holes."""
    part = largest(logit > 0)
    box = bounding_box(part, margin=2)
    if box is None:
        return BrainMask(part, grid, METHOD)
    mask = fill_holes(largest(_halved(logit[box]) > 0))
    fine = _finer(cut_grid(grid, box))
    volume = fine.volume_ml(mask)
    return BrainMask(mask, fine, METHOD, _reason_to_check(logit, part, volume))


def _halved(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Interpolate linearly at the centres of FINER^3 sub-voxels, edge values held."""
    for axis in range(values.ndim):
        along = np.moveaxis(values, axis, 0)
        first, last = along[:1], along[-1:]
        before = np.concatenate([first, along[:-1]])
        after = np.concatenate([along[1:], last])
        pair = [0.75 * along + 0.25 * before, 0.75 * along + 0.25 * after]
        parts = np.stack(pair, 1, dtype=np.float32).reshape(-1, *along.shape[1:])
        values = np.moveaxis(parts, 0, axis)
    return values


def share_of_brain(values: NDArray[np.float32], grid: Grid, mask: NDArray[np.bool_]) -> float:
    """Return the share of a stripped image's outline that is certainly brain, 0-1.

    Parameters
    ----------
    values : (I, J, K) float32
        Skull-stripped image.
    mask : (I, J, K) bool
        Its foreground.
    """
    i, j, k = (max(round(SPACING_MM / edge), 1) for edge in grid.nominal_spacing_mm)
    image, small = block_means(values, grid, (i, j, k))
    outline, _ = block_means(mask.astype(np.float32), grid, (i, j, k))
    target = reading_grid(small)
    inside = resample(outline, small, target) > HALF
    (logit,) = logits_of([resample(image, small, target)])
    found = logit > SURE
    return float((found & inside).sum()) / max(float(inside.sum()), 1.0)


def _finer(grid: Grid) -> Grid:
    """Return the grid of FINER^3 sub-voxels."""
    affine = np.array(grid.affine)
    affine[:3, :3] /= FINER
    affine[:3, 3] = grid.to_mm(np.full(3, (1 / FINER - 1) / 2))
    shape = tuple(FINER * length for length in grid.shape)
    return Grid((shape[0], shape[1], shape[2]), affine, grid.frame_uid)


def _reason_to_check(
    logit: NDArray[np.float32], part: NDArray[np.bool_], volume_ml: float
) -> str | None:
    """Return why the mask should be checked, or None."""
    if not may_be_whole(volume_ml):
        return f"it measures {volume_ml:.0f} ml"
    other = float((logit > 0).sum() - part.sum()) / float(part.sum())
    if other > 0.1:
        return f"the network finds brain elsewhere, too ({other:.0%} as much)"
    unsure = float((np.abs(logit[part]) < 1.0).mean())
    if unsure > 0.2:
        return f"the network is unsure of {unsure:.0%} of it"
    return None
