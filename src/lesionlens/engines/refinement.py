"""Refine the first pass of the Lens network, whose voxels of 2 mm are coarse for small things.

`enhancing_windows` and `refine_enhancing` run the network again on windows of finer voxels, for the
thin rim of enhancing tumour. `find_small_lesions` and `add_small_lesions` search the brain with a
U-Net at 1.3 mm, for metastases. `refine_outlines` moves outlines to this patient's own intensities.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import expit, logit
from torch import Tensor

from lesionlens.base import geometry
from lesionlens.base.geometry import TOUCHING, Box, Floats, Mask, bounding_box
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.numerics import connected_parts
from lesionlens.engines.grid import InputFrame, NetworkInput, resample, smooth
from lesionlens.imaging.preparation.resampling import HALF, cut_grid
from lesionlens.network.unet import lesion_logits

# --- Enhancing tumour in windows -----------------------------------------------------------------

WINDOW_WEIGHT = 0.7
"""Weight of the windows in the outline of enhancing tumour, and in its attention."""
_WINDOW_VOX = 96
_SUSPECTED, _MARGIN_MM = 0.25, 6.0  # probability of whole tumour, and what is near it


def enhancing_windows(whole: Tensor, grid: Grid, fine: Grid) -> tuple[Tensor, list[Box]]:
    """Return the neighbourhood of suspected tumour, and windows of the fine grid that cover it.

    Parameters
    ----------
    whole : (I, J, K) Tensor
        Logits of the whole tumour on `grid`.

    Returns
    -------
    (I, J, K) float32 Tensor, list of Box
        1 within 6 mm of suspected tumour; windows that overlap by half, none without suspicion.
    """
    suspected = whole.sigmoid().cpu().numpy() >= _SUSPECTED
    if not suspected.any():
        return torch.zeros_like(whole), []
    distance_mm = ndimage.distance_transform_edt(~suspected, sampling=grid.spacing_mm)
    near = torch.from_numpy((distance_mm <= _MARGIN_MM).astype(np.float32)).to(whole.device)
    covered = resample(near, grid, fine).cpu().numpy() > HALF
    return near, windows_over(covered, _WINDOW_VOX)


def windows_over(covered: Mask, edge: int) -> list[Box]:
    """Return cubes of a grid that overlap by half and together cover every True voxel.

    Examples
    --------
    >>> len(windows_over(np.ones((64, 64, 96), bool), 64))
    2
    """
    box = bounding_box(covered)
    if box is None:
        return []
    starts = []
    for side, length in zip(box, covered.shape, strict=True):
        extent, last = side.stop - side.start, max(length - edge, 0)
        count = max(1, 1 + math.ceil((extent - edge) / (edge / 2)))
        ends = (
            (side.start, side.stop - edge) if count > 1 else ((side.start + side.stop - edge) // 2,)
        )
        rounded = np.rint(np.linspace(ends[0], ends[-1], count)).clip(0, last).astype(int)
        starts.append(sorted({int(start) for start in rounded}))
    windows = [
        tuple(slice(s, min(s + edge, n)) for s, n in zip(c, covered.shape, strict=True))
        for c in product(*starts)
    ]
    return [(i, j, k) for i, j, k in windows if covered[i, j, k].any()]


def relative_bounds(window: Box, shape: Sequence[int], device: torch.device) -> Tensor:
    """Return the (1, 3, 2) edges of a window, in coordinates in which the volume is -1 to 1."""
    edges = [(2 * s.start / n - 1, 2 * s.stop / n - 1) for s, n in zip(window, shape, strict=True)]
    return torch.tensor([edges], dtype=torch.float32, device=device)


def refine_enhancing(
    near: Tensor,
    enhancing: Tensor,
    grid: Grid,
    fine: Grid,
    outputs: Sequence[tuple[Box, Tensor, Tensor]],
) -> Tensor:
    """Blend the windows into the logits of enhancing tumour; they fade out at their borders.

    Parameters
    ----------
    near, enhancing : (I, J, K) Tensor
        From `enhancing_windows`, and logits of the first pass, on `grid`.
    outputs : sequence of (Box, Tensor, Tensor)
        Each window with the logits and the attention of enhancing tumour in it.

    Returns
    -------
    (2, i, j, k) Tensor
        On the fine grid: what to add to the logits, and attention, windows weighted by their share
        of the region.
    """
    total, weights, attention = enhancing.new_zeros((3, *fine.shape))
    for window, logits, attended in outputs:
        sides = (torch.hann_window(n + 2, periodic=False)[1:-1] + 1e-3 for n in logits.shape)
        weight = torch.einsum("i,j,k->ijk", *sides).to(enhancing.device)
        total[window] += logits * weight
        weights[window] += weight
        attention[window] += attended * logits.sigmoid().sum()
    before, fade = resample(torch.stack([enhancing, smooth(near, 1.0)]), grid, fine)
    share = WINDOW_WEIGHT * (weights / 0.25).clip(0.0, 1.0) * fade
    return torch.stack([share * (total / weights.clip(1e-6) - before), attention])


# --- Search for small lesions --------------------------------------------------------------------

_MIN_BRAIN_ML = 20.0
"""Smaller separate parts of the brain mask are remnants of other tissue, and not searched."""
_MIN_ML, _MAX_ML = 0.03, 6.0
_TOP_FRACTION = 0.3
"""Share of a lesion's most certain voxels that determine its score."""
_INTERCEPT, _CERTAINTY, _SUSPICION = -2.83, 0.49, 0.238
"""Logistic model of a lesion's score, fitted on synthetic heads: mean logit of its most certain
voxels, and the highest whole-tumour logit of the Lens network there."""
_MIN_SUSPICION, _MIN_SCORE = -8.0, 0.4
_LARGE_ML, _CORE_LOGIT, _MAX_CORE_OVERLAP = 10.0, -0.62, 0.05
"""A lesion is not added if more than this share of it lies in the core of a large tumour."""
_MARGIN_VOX, _ZEROS_VOX = 2, 4


class SmallLesion(NamedTuple):
    """One lesion that the search found."""

    grid: Grid
    """A box of the search's grid around the lesion, with a margin of zeros."""
    probability: Floats
    """(I, J, K) float32: 0 outside of the lesion."""
    filled: Floats
    """(I, J, K) float32: 1 in the voxels that the lesion may fill."""
    score: float


def find_small_lesions(fine: NetworkInput, whole_and_core: Floats) -> list[SmallLesion]:
    """Search a study with T1c for small enhancing lesions.

    Parameters
    ----------
    fine : NetworkInput
        At the voxel size of the search.
    whole_and_core : (2, I, J, K) float32
        Logits of the Lens network on the same grid.
    """
    shape, voxel_ml = fine.grid.shape, fine.grid.voxel_ml
    brain = fine.brain[0].cpu().numpy()
    images = np.concatenate([fine.channels[0].cpu().numpy(), brain[None].astype(np.float32)])
    parts, sizes = connected_parts(brain)
    searched = ((sizes * voxel_ml >= _MIN_BRAIN_ML) | (sizes == sizes.max()))[parts] & brain
    found = np.where(searched, lesion_logits(images), -np.inf).astype(np.float32)
    parts, sizes = connected_parts(whole_and_core[0] >= 0)
    large_core = (sizes * voxel_ml > _LARGE_ML)[parts] & (whole_and_core[1] >= _CORE_LOGIT)
    parts, _ = ndimage.label(found >= 0, TOUCHING)
    lesions = []
    for number, tight in enumerate(ndimage.find_objects(parts), 1):
        mask = parts[tight] == number
        if not _MIN_ML <= np.count_nonzero(mask) * voxel_ml <= _MAX_ML:
            continue
        certain = np.sort(found[tight][mask])
        certainty = float(certain[-math.ceil(_TOP_FRACTION * certain.size) :].mean())
        suspicion = max(float(whole_and_core[0][tight][mask].max()), _MIN_SUSPICION)
        score = float(expit(_INTERCEPT + _CERTAINTY * certainty + _SUSPICION * suspicion))
        if score < _MIN_SCORE or large_core[tight][mask].mean() > _MAX_CORE_OVERLAP:
            continue
        box = geometry.grown(tight, _MARGIN_VOX + _ZEROS_VOX, shape)
        own = parts[box] == number
        reach = ndimage.binary_dilation(own, TOUCHING, _MARGIN_VOX)
        filled = (reach & (own | (parts[box] == 0))).astype(np.float32)
        probability, grid = expit(found[box]) * filled, cut_grid(fine.grid, box)
        lesions.append(SmallLesion(grid, probability, filled, score))
    return lesions


def add_small_lesions(regions: Floats, lesions: Sequence[SmallLesion], frame: InputFrame) -> Floats:
    """Add lesions to (3, I, J, K) probabilities in the brain's box; their bright half enhances.

    Bright is above the middle between the T1c around a lesion and its brightest tenth.
    """
    out, prepared = regions.copy(), frame.prepared
    t1c = prepared.channels[list(MrSequence).index(MrSequence.T1C)][frame.box]
    brain = prepared.brain[frame.box]
    for lesion in lesions:
        box, probability = onto(lesion.probability, lesion.grid, frame.box_grid)
        probability *= brain[box]
        inside, image = probability >= 0.5, t1c[box]
        rim = (probability > 0) & ~inside
        low = float(np.median(image[rim])) if rim.any() else 0.0
        high = float(np.quantile(image[inside], 0.9)) if inside.any() else math.inf
        enhancing = np.where(image >= (low + high) / 2, probability, 0)
        for index, added in enumerate((probability, probability, enhancing)):
            np.maximum(out[index][box], added, out=out[index][box])
    return out


def onto(values: Floats, source: Grid, target: Grid) -> tuple[Box, Floats]:
    """Resample values that are zero at their edge to the box of another grid that holds them."""
    i, j, k = (slice(0, n) for n in source.shape)
    reached = geometry.mapped_box(
        (i, j, k), geometry.index_map(source.affine, target.affine), target.shape
    )
    coarser = bool(target.spacing_mm[0] > source.spacing_mm[0])
    volume = torch.from_numpy(values.astype(np.float32))
    part = resample(volume, source, cut_grid(target, reached), antialias=coarser)
    return reached, part.numpy()


# --- Outlines by this patient's intensities ------------------------------------------------------

_STRENGTH = 0.5  # weight of a likelihood ratio, as neighbouring voxels are not independent
_LIMIT = 2.0  # clipping of a voxel's log-likelihood ratio
_INSIDE, _OUTSIDE = 0.8, 0.05  # probabilities beyond which a voxel is certain
_MIN_VOX = 300  # minimum number on either side, for a stable covariance
_BOX_MARGIN_VOX, _REACH_VOX = 12, 2.0  # of the surroundings; of the weight around the outline
_RAMP = 0.2  # probability range over which a voxel changes from outside to inside
_OFFSET = 0.01  # subtracted from the weight, so that there is no jump at its end
_VARIANCE, _EDGE = 0.05, 1e-3  # added to standardised variances; distance of a prior from 0 and 1
_UPTAKE = np.array([s in {MrSequence.T1, MrSequence.T1C} for s in MrSequence])


def refine_outlines(probability: Floats, channels: Floats, present: Mask, brain: Mask) -> Floats:
    """Move the outlines of the three regions to this patient's own intensities near them.

    Parameters
    ----------
    probability : (3, I, J, K) float32
        Of whole tumour, core and enhancing tumour, nested, at 1 mm.
    channels : (4, I, J, K) float32
        In the order of `MrSequence`, any units; zero outside a field of view.
    present : (4,) bool
    brain : (I, J, K) bool

    Returns
    -------
    (3, I, J, K) float32
        Nested. A region with too few certain voxels is unchanged.

    Notes
    -----
    Voxels of which the network is certain show how this patient's tissues look. Each region gets
    two Gaussians of intensity, inside and around (quadratic discriminant analysis: Hastie,
    Tibshirani and Friedman, The Elements of Statistical Learning, 2nd edition, section 4.3). The
    network's probability is the prior; part of the log-likelihood ratio is added to its logit.
    """
    box = bounding_box(probability[0] > 0.5, _BOX_MARGIN_VOX)
    if box is None:
        return probability
    cut, images, within = probability[:, *box], channels[:, *box], brain[box].astype(np.float32)
    steps = ((cut - 0.5) / _RAMP + 0.5).clip(0, 1).astype(np.float32)
    soft = smooth(torch.from_numpy(steps), _REACH_VOX).numpy()
    lesion = steps[0] * within
    around = ((present, within), (present, lesion), (present & _UPTAKE, lesion))
    refined = np.stack(
        [
            _refine_region(p, s, images[sequences], surroundings)
            for p, s, (sequences, surroundings) in zip(cut, soft, around, strict=True)
        ]
    )
    refined[0] = np.maximum(refined[0], refined[1])
    refined[2] = np.minimum(refined[2], refined[1])
    out = probability.copy()
    out[:, *box] = refined * within
    return out


def _refine_region(
    probability: Floats, soft: Floats, images: Floats, surroundings: Floats
) -> Floats:
    """Refine one region; `soft` is its smoothed outline, `surroundings` weights what is around."""
    scanned = (images != 0).all(0)
    inside = (probability > _INSIDE) & scanned
    outside = surroundings * ((probability < _OUTSIDE) & scanned)
    if min(inside.sum(), outside.sum()) < _MIN_VOX or not len(images):
        return probability
    weight = 4 * soft * (1 - soft) - _OFFSET
    near = (weight > 0) & scanned
    around = outside > 0
    sides = [images[:, inside].astype(float), images[:, around].astype(float)]
    weights = [np.ones(sides[0].shape[1]), outside[around].astype(float)]
    sizes = [w.sum() for w in weights]
    centre = sum(v @ w for v, w in zip(sides, weights, strict=True))[:, None] / sum(sizes)
    for values in sides:
        values -= centre
    squares = [(v * w) @ v.T for v, w in zip(sides, weights, strict=True)]
    scale = np.sqrt(np.diag(squares[0] + squares[1])[:, None] / sum(sizes)) + 1e-6
    standardised = (images[:, near] - centre) / scale
    densities = []
    for values, w, size, square in zip(sides, weights, sizes, squares, strict=True):
        mean = (values @ w / size)[:, None]
        freedom = size - (w * w).sum() / size
        covariance = (square - size * mean @ mean.T) / freedom / (scale * scale.T)
        covariance += _VARIANCE * np.eye(len(mean))
        deviation = standardised - mean / scale
        distance = (deviation * np.linalg.solve(covariance, deviation)).sum(0)
        densities.append(-0.5 * (distance + np.linalg.slogdet(covariance)[1]))
    ratio = (densities[0] - densities[1]).clip(-_LIMIT, _LIMIT)
    prior: NDArray[np.float64] = logit(probability[near].astype(float).clip(_EDGE, 1 - _EDGE))
    change = expit(prior + _STRENGTH * weight[near] * ratio) - expit(prior)
    refined = probability.copy()
    refined[near] = (probability[near] + change).clip(0, 1)
    return refined
