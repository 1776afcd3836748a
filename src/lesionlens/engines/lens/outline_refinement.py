"""Outline refinement by this patient's intensities near the outline.

The network segments on a grid of 2 mm. Voxels of which it is certain show this patient's own
intensities, at the resolution of the images. Each region gets two Gaussians of intensity, of
certain inside voxels and of certain surrounding voxels (quadratic discriminant analysis: Hastie,
Tibshirani and Friedman, The Elements of Statistical Learning, 2nd edition, section 4.3). The
network's probability is the prior: part of the log-likelihood ratio is added to its logit, only
near the outline. Nothing changes elsewhere.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor

from lesionlens.base.geometry import Floats, Mask, bounding_box
from lesionlens.base.labels import MrSequence
from lesionlens.base.numerics import logit
from lesionlens.engines import separable

_STRENGTH = 0.5  # weight of a ratio, as neighbouring voxels are not independent
_LIMIT = 2.0  # clipping of a voxel's log-likelihood ratio
_INSIDE, _OUTSIDE = 0.8, 0.05  # probabilities beyond which a voxel is certain
_MIN_VOX = 300  # minimum number on either side, for a stable covariance
_MARGIN_VOX = 12  # extent of the surroundings around the whole tumour
_REACH_VOX = 2.0  # standard deviation of the Gaussian weight around the outline
_RAMP = 0.2  # probability range over which a voxel changes from outside to inside
_WEIGHT_OFFSET = 0.01  # subtracted from the weight; negative weights are set to zero
_VARIANCE = 0.05  # added to each standardised variance, for regularisation
_EDGE = 1e-3  # probabilities are clipped this far from 0 and 1
_UPTAKE = np.array([s in {MrSequence.T1, MrSequence.T1C} for s in MrSequence])
"""The sequences that show enhancement."""


@dataclass(frozen=True, slots=True, eq=False)
class _Gaussian:
    """Gaussian of intensities: (C,) mean, (C, C) covariance."""

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]

    def log_density(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (N,) log densities of (C, N) intensities, up to a constant."""
        deviation = values - self.mean[:, None]
        distance = (deviation * np.linalg.solve(self.covariance, deviation)).sum(0)
        return np.asarray(-0.5 * (distance + np.linalg.slogdet(self.covariance)[1]))


def refine(probability: Floats, channels: Floats, present: Mask, brain: Mask) -> Floats:
    """Adjust the outlines of the three regions to this patient's images.

    Parameters
    ----------
    probability : (3, I, J, K) float32 array
        Probability of whole tumour, core and enhancing tumour, nested, on a grid of 1 mm.
    channels : (4, I, J, K) float32 array
        In the order of `MrSequence`, in any units; zero outside a field of view, where nothing is
        changed.
    present : (4,) bool array
        Available sequences.
    brain : (I, J, K) bool array

    Returns
    -------
    (3, I, J, K) float32 array
        Nested. A region with too few certain voxels is unchanged.
    """
    box = bounding_box(probability[0] > 0.5, _MARGIN_VOX)
    if box is None:
        return probability
    cut, within, images = probability[:, *box], brain[box], channels[:, *box]
    brain_mask = within.astype(np.float32)
    lesion = _ramp(cut[0]) * brain_mask
    references = ((present, brain_mask), (present, lesion), (present & _UPTAKE, lesion))
    soft = separable.smooth(torch.from_numpy(_ramp(cut)), _REACH_VOX).numpy()
    with ThreadPoolExecutor(len(references)) as pool:
        jobs = [
            pool.submit(
                _refine_region, region_probability, smoothed, images[sequences], surroundings
            )
            for region_probability, smoothed, (sequences, surroundings) in zip(
                cut, soft, references, strict=True
            )
        ]
    refined = np.stack([job.result() for job in jobs])
    refined[0] = np.maximum(refined[0], refined[1])
    refined[2] = np.minimum(refined[2], refined[1])
    out = probability.copy()
    out[:, *box] = refined * within
    return out


def nested_probabilities(logits: Tensor) -> Tensor:
    """Return probabilities of (3, I, J, K) logits, each at most that of its enclosing region."""
    outer, core, enhancing = logits.sigmoid()
    core = torch.minimum(core, outer)  # much faster than `cummin` along an axis of three
    return torch.stack([outer, core, torch.minimum(enhancing, core)])


def _ramp(probability: Floats) -> Floats:
    """Ramp from 0 to 1 over `_RAMP` around one half; a step would magnify rounding errors."""
    return np.asarray(((probability - 0.5) / _RAMP + 0.5).clip(0, 1), np.float32)


def _refine_region(
    probability: Floats, soft: Floats, images: Floats, surroundings: Floats
) -> Floats:
    """Refine the (I, J, K) probability of a region, `soft` its smoothed outline."""
    scanned = (images != 0).all(0)
    inside = (probability > _INSIDE) & scanned
    outside = surroundings * ((probability < _OUTSIDE) & scanned)
    if min(inside.sum(), outside.sum()) < _MIN_VOX or not len(images):
        return probability
    # from zero, so that there is no jump at its end
    border_weight = 4 * soft * (1 - soft) - _WEIGHT_OFFSET
    near_border = (border_weight > 0) & scanned
    ratio = _fit_gaussians(images, inside, outside).log_ratio(images[:, near_border])
    prior = logit(probability[near_border].astype(float), _EDGE)
    posterior = expit(prior + _STRENGTH * border_weight[near_border] * ratio.clip(-_LIMIT, _LIMIT))
    refined = probability.copy()
    refined[near_border] = (probability[near_border] + posterior - expit(prior)).clip(0, 1)
    return refined


class _IntensityModel(NamedTuple):
    """Gaussians of the intensities on both sides of a border, less `centre`, divided by `scale`."""

    centre: NDArray[np.float64]
    scale: NDArray[np.float64]
    """(C, 1) float64, of all certain voxels."""
    lesion: _Gaussian
    background: _Gaussian

    def log_ratio(self, intensities: Floats) -> NDArray[np.float64]:
        """Return the (N,) log ratio of the lesion's density to the background's; (C, N) input."""
        standardised = (intensities - self.centre) / self.scale
        return self.lesion.log_density(standardised) - self.background.log_density(standardised)


def _fit_gaussians(images: Floats, inside: Mask, outside: Floats) -> _IntensityModel:
    """Fit the intensities of certain voxels; `outside` weights those of the background.

    No sum depends on the number of threads, as a product of matrices by BLAS may.
    """
    is_outside = outside > 0
    sides = [images[:, inside].astype(float), images[:, is_outside].astype(float)]
    weights = [np.ones(sides[0].shape[1]), outside[is_outside].astype(float)]
    sizes = [float(w.sum()) for w in weights]
    sums = [np.einsum("cn,n->c", v, w) for v, w in zip(sides, weights, strict=True)]
    centre = (sums[0] + sums[1])[:, None] / sum(sizes)
    squares = []
    for values, weight in zip(sides, weights, strict=True):
        deviation = np.subtract(values, centre, out=values)
        squares.append(np.einsum("cn,dn->cd", deviation * weight, deviation))
    scale = np.sqrt(np.diag(squares[0] + squares[1])[:, None] / sum(sizes)) + 1e-6
    fitted = []
    for size, total, square, weight in zip(sizes, sums, squares, weights, strict=True):
        mean = total / size - centre[:, 0]
        degrees_of_freedom = size - float((weight * weight).sum()) / size
        covariance = (square - size * np.outer(mean, mean)) / degrees_of_freedom / (scale * scale.T)
        fitted.append(_Gaussian(mean / scale[:, 0], covariance + _VARIANCE * np.eye(len(mean))))
    return _IntensityModel(centre, scale, *fitted)
