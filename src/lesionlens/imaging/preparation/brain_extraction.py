"""Brain extraction from images with skull by a small built-in network.

The network, trained on synthetic images of random contrast (`network.unet`,
`training/brain/train_brain.py`), segments each sequence separately, and the logits are
averaged.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from lesionlens.base.geometry import Floats, Mask, bounding_box, ras_grid
from lesionlens.base.grid import Grid
from lesionlens.base.records.study import Images
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.imaging.preparation.brain import (
    BrainMask,
    fill_holes,
    is_even,
    largest,
    may_be_whole,
)
from lesionlens.imaging.preparation.resampling import HALF, block_means, cut_grid, resample

METHOD = "built-in network"
SPACING_MM = 2.5
"""Voxel edge on which the network was trained."""
FINER = 2
"""The outline is computed on voxels of this fraction of the network's voxel edge."""
SURE_LOGIT = 2.0
"""Logit at which a voxel is certainly brain (probability .88)."""
MIN_ML, MIN_SURE_OF_OBJECT = 15.0, 0.03
"""Minimum certain brain volume of a scan, and its minimum share of the bright voxels."""
MIN_SURE_FRACTION = 0.7
"""Minimum certain share of a head's mask: .83 and more in real heads, .02 to .4 in bottles of
water.
"""
BEYOND_MM, MAX_BEYOND = 8.0, 0.12
"""Maximum share of a stripped image's outline at this distance from all that looks like brain.
Measured: at most .03 in 67 stripped images of seventeen brains, .15 and more in thirteen of
fourteen heads on a blank background, whole or cut above and below.
"""


class OutlineContent(NamedTuple):
    """What the network finds in the outline of an image that seems to be stripped."""

    brain: float
    """Share of the outline that is certainly brain, 0-1."""
    beyond: float
    """Share of the outline that is farther than `BEYOND_MM` from all that looks like brain, 0-1."""

    @property
    def may_be_head(self) -> bool:
        """Whether scalp and skull may surround the brain."""
        return self.beyond > MAX_BEYOND


def reading_grid(native: Grid) -> Grid:
    """Return the axis-aligned RAS+ grid of the network's input for a field of view."""
    affine, shape = ras_grid(native.affine, native.shape, SPACING_MM)
    return Grid(shape, affine, native.frame_uid)


def logits_of(images: Sequence[Floats]) -> Generator[Floats, None, None]:
    """Yield the logit of brain in each image on `reading_grid`, (I, J, K) float32."""
    from lesionlens.network.unet import brain_logits  # torch, only for a skull

    return brain_logits(images)


def brain_logit(images: Images, *, context: RunContext = SILENT) -> Floats:
    """Average the brain logits of all sequences, each within its field of view.

    They are on `reading_grid`, the reference first, and zero outside a field of view.

    Returns
    -------
    (I, J, K) float32
        Above zero where brain is more likely than not.
    """
    volumes = list(images.values())
    total, total_weight = 0.0, 0.0
    with closing(logits_of(volumes)) as logits:  # cancelled: no further pass is started
        for image in volumes:
            context.check("finding the brain")
            weight = (image != 0).astype(np.float32) + np.float32(1e-3)
            total = total + weight * next(logits)
            total_weight = total_weight + weight
    return np.asarray(total / total_weight, dtype=np.float32)


def find_brain(images: Images, grid: Grid, *, context: RunContext = SILENT) -> BrainMask:
    """Segment the brain in images with skull, which are as for `brain_logit`.

    Returns
    -------
    BrainMask
        On a grid finer than `grid`, cropped to the brain; empty if no brain is found.
    """
    logit = brain_logit(images, context=context)
    doubt = _reason_not_a_brain(logit, next(iter(images.values())), grid)
    if doubt is not None:
        return BrainMask(np.zeros(grid.shape, dtype=bool), grid, METHOD, doubt)
    return mask_from_logit(logit, grid)


def _reason_not_a_brain(logit: Floats, image: Floats, grid: Grid) -> str | None:
    """Return why this is not a scan of a brain, or None."""
    sure_ml = grid.volume_ml(logit > SURE_LOGIT)
    foreground = image > 0.1 * float(np.quantile(image[::2, ::2, ::2], 0.99))
    object_ml = grid.volume_ml(foreground)
    component = largest(logit > 0)
    component_ml = grid.volume_ml(component)
    if sure_ml < MIN_SURE_FRACTION * component_ml and is_even(image, component):
        return f"an object of one uniform material, {component_ml:.0f} ml"
    if sure_ml >= max(MIN_ML, MIN_SURE_OF_OBJECT * object_ml):
        return None
    return f"{sure_ml:.0f} of {object_ml:.0f} ml look like brain"


def mask_from_logit(logit: Floats, grid: Grid) -> BrainMask:
    """Threshold a logit map at zero on a finer grid: one component without holes."""
    component = largest(logit > 0)
    box = bounding_box(component, margin=2)
    if box is None:
        return BrainMask(component, grid, METHOD)
    mask = fill_holes(largest(_upsampled(logit[box]) > 0))
    i, j, k = mask.shape
    fine = cut_grid(grid, box).scaled(1 / FINER, (i, j, k))
    volume = fine.volume_ml(mask)
    return BrainMask(mask, fine, METHOD, _reason_to_check(logit, component, volume))


def _upsampled(values: Floats) -> Floats:
    """Interpolate linearly at the centres of FINER^3 sub-voxels, edge values held."""
    for axis in range(values.ndim):
        slabs = np.moveaxis(values, axis, 0)
        first, last = slabs[:1], slabs[-1:]
        before = np.concatenate([first, slabs[:-1]])
        after = np.concatenate([slabs[1:], last])
        pair = [0.75 * slabs + 0.25 * before, 0.75 * slabs + 0.25 * after]
        parts = np.stack(pair, 1, dtype=np.float32).reshape(-1, *slabs.shape[1:])
        values = np.moveaxis(parts, 0, axis)
    return values


def outline_content(values: Floats, grid: Grid, outline: Mask) -> OutlineContent:
    """Return what the network finds in the outline of an image that seems to be stripped."""
    i, j, k = (max(round(SPACING_MM / edge), 1) for edge in grid.nominal_spacing_mm)
    image, small = block_means(values, grid, (i, j, k))
    coarse_outline, _ = block_means(outline.astype(np.float32), grid, (i, j, k))
    target = reading_grid(small)
    foreground = resample(coarse_outline, small, target) > HALF
    (logit,) = logits_of([resample(image, small, target)])
    component = largest(logit > 0)
    beyond = foreground
    if component.any():
        distance_mm = ndimage.distance_transform_edt(~component, sampling=target.spacing_mm)
        beyond = foreground & (distance_mm > BEYOND_MM)
    count = max(float(foreground.sum()), 1.0)
    return OutlineContent(
        float((foreground & (logit > SURE_LOGIT)).sum()) / count, float(beyond.sum()) / count
    )


def _reason_to_check(logit: Floats, component: Mask, volume_ml: float) -> str | None:
    """Return why the mask should be checked, or None."""
    if not may_be_whole(volume_ml):
        return f"it measures {volume_ml:.0f} ml"
    other_fraction = float((logit > 0).sum() - component.sum()) / float(component.sum())
    if other_fraction > 0.1:
        return f"the network also finds brain elsewhere ({other_fraction:.0%} as much)"
    unsure_fraction = float((np.abs(logit[component]) < 1.0).mean())
    if unsure_fraction > 0.2:
        return f"the network is uncertain about {unsure_fraction:.0%} of it"
    return None
