"""Measure the contrast between tissues in one image, and compare it with that of the sequences.

The tissue template is registered to the image; the intensities of fluid, grey matter and the
brightest voxels relative to white matter are classified by a softmax. It was fitted on synthetic
brains alone (`research/fit_sequence_from_image.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.imaging.preparation.registration import on_ras_grid
from lesionlens.imaging.preparation.resampling import resample
from lesionlens.imaging.preparation.tissue_template import (
    Template,
    load_template,
    register_template,
)

EDGE_MM = 3.0
MARGIN_MM = 9.0
"""Rim of the brain that is ignored: sinuses, fluid and remainders of the skull."""
MIN_TISSUE_SHARES = (0.8, 0.6, 0.5)
"""Tissue share at which a voxel is used for that tissue."""
MIN_VOXELS = 100
LARGEST_MM = 600.0
"""Field of view beyond which an image is of no head; resampling it would take minutes."""
FAR = 6.5
"""Deviations from the nearest class beyond which an image is none of the four sequences."""
FLAT = (0.85, 1.25)
"""If fluid is between these multiples of white matter's intensity, there is no tissue contrast."""
MEANS = np.array(
    [
        [-0.112, -0.613, -0.057, 0.156, 0.223],
        [-0.051, -0.553, 0.031, 0.225, 0.399],
        [0.125, 0.108, 0.730, 0.704, 0.947],
        [0.042, -0.419, 0.106, 0.344, 0.484],
    ]
)
"""Features of 36 synthetic brains, by class in the order of MrSequence; printed by the script."""
INVERSE = np.array(
    [
        [289.052, -18.349, -86.855, -48.160, 30.040],
        [-18.349, 25.475, -22.396, 2.819, 6.510],
        [-86.855, -22.396, 211.427, -89.933, -0.672],
        [-48.160, 2.819, -89.933, 458.229, -251.693],
        [30.040, 6.510, -0.672, -251.693, 190.439],
    ]
)
"""Inverse of the common covariance of the classes."""
CONTRADICTED = 1e-4
"""Probability below which an image contradicts its name."""


@dataclass(frozen=True, slots=True)
class TissueContrast:
    """Intensities relative to white matter that distinguish the four sequences."""

    grey: float
    """Median of grey matter."""
    fluid: tuple[float, float]
    """15th and 85th percentile at the ventricles of the template; young patients' narrow ventricles
    fill little of that region.
    """
    bright: tuple[float, float]
    """98th and 99.8th percentile of the brain without its rim."""

    @property
    def features(self) -> NDArray[np.float64]:
        """Logarithms of the five values, (5,) float64."""
        return np.log(np.maximum((self.grey, *self.fluid, *self.bright), 0.05))


def tissues(
    image: NDArray[np.float32], grid: Grid, template: Template
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Register the tissue maps to an image.

    Parameters
    ----------
    image : (I, J, K) float32
        With or without skull.
    grid : Grid
        RAS+, isotropic, `EDGE_MM`.

    Returns
    -------
    shares : (3, I, J, K) float32
        White, grey, fluid; 0 to 1.
    inside : (I, J, K) bool
        The brain without its rim.
    """
    back = np.asarray(np.linalg.inv(register_template(template, image, grid)))
    white, grey, mask = (
        resample(m, template.grid, grid, moved=back)
        for m in (template.white, template.grey, template.mask)
    )
    shares = np.stack([white, grey, np.clip(mask - grey - white, 0.0, 1.0)])
    depth = ndimage.distance_transform_edt(np.pad(mask > 0.5, 1))[1:-1, 1:-1, 1:-1]
    return shares, np.asarray(depth > MARGIN_MM / EDGE_MM)


def figures(
    image: NDArray[np.float32], shares: NDArray[np.float32], inside: NDArray[np.bool_]
) -> TissueContrast | None:
    """Measure the tissue contrast; None if a tissue is not found.

    Parameters
    ----------
    image : (I, J, K) float32
        Any intensity unit.
    shares, inside
        From `tissues`.
    """
    seen = inside & (image > 0)
    parts = [
        image[seen & (share > least)]
        for share, least in zip(shares, MIN_TISSUE_SHARES, strict=True)
    ]
    if min(part.size for part in parts) < MIN_VOXELS:
        return None
    usual = float(np.median(parts[0]))
    grey = float(np.median(parts[1])) / usual
    low, high = np.quantile(parts[2], (0.15, 0.85)) / usual
    bright, brightest = np.quantile(image[seen], (0.98, 0.998)) / usual
    return TissueContrast(grey, (float(low), float(high)), (float(bright), float(brightest)))


def posterior(
    features: NDArray[np.float64], means: NDArray[np.float64], inverse: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """Return the (4,) class probabilities, and the distance to the nearest class in deviations."""
    apart = features - means
    squared = np.einsum("ci,ij,cj->c", apart, inverse, apart)
    weight = np.exp(-0.5 * (squared - squared.min()))
    return weight / weight.sum(), float(np.sqrt(squared.min()))


def measured(values: NDArray[np.float32], grid: Grid) -> TissueContrast | None:
    """Measure the tissue contrast of an image; None if no brain is found.

    Parameters
    ----------
    values : (I, J, K) float32
        Any intensity unit, with or without skull.
    """
    return measured_together([values], grid)[0]


def measured_together(
    images: Sequence[NDArray[np.float32]], grid: Grid
) -> list[TissueContrast | None]:
    """Measure as `measured` several images of one head, at least one.

    The template is registered to the first alone: the others share its place.
    """
    if (np.asarray(grid.shape) * grid.spacing_mm).max() > LARGEST_MM:
        return [None] * len(images)
    first, where = on_ras_grid(images[0], grid, EDGE_MM)
    shares, inside = tissues(first, where, load_template())
    others = (on_ras_grid(image, grid, EDGE_MM)[0] for image in images[1:])
    return [figures(image, shares, inside) for image in (first, *others)]


def probabilities(found: TissueContrast) -> dict[MrSequence, float] | None:
    """Return the probability of each sequence; None if the contrast is of none of them."""
    chances, distance = posterior(found.features, MEANS, INVERSE)
    flat = found.fluid[0] > FLAT[0] and found.fluid[1] < FLAT[1]
    if flat or distance > FAR:
        return None
    return dict(zip(MrSequence, chances.tolist(), strict=True))


def t2_log_odds(
    images: Mapping[MrSequence, NDArray[np.float32]], grid: Grid
) -> dict[MrSequence, float]:
    """Return the log odds that each image is T2 rather than T1, T1c or FLAIR, by its contrast.

    Natural logarithm, at most that of 1 / `CONTRADICTED` either way; 0 if the contrast is unusual.

    Parameters
    ----------
    images : mapping of MrSequence to (I, J, K) float32
        By name, as for `measured_together`.
    """
    found = measured_together(tuple(images.values()), grid)
    return dict(zip(images, map(_log_odds, found), strict=True))


def _log_odds(found: TissueContrast | None) -> float:
    chances = None if found is None else probabilities(found)
    if chances is None:
        return 0.0
    chance = chances[MrSequence.T2]
    odds = max(chance, CONTRADICTED) / max(1.0 - chance, CONTRADICTED)
    return float(np.log(odds))
