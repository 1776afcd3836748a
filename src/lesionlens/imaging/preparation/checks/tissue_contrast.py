"""Measure the contrast between tissues in one image, and compare it with that of the sequences.

The tissue template is registered to the image; the intensities of fluid, grey matter and the
brightest voxels relative to white matter are classified by a softmax. It was fitted on synthetic
brains alone (`research/preparation/fit_sequence_from_image.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.geometry import Floats, Mask
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.masks import depth_inside
from lesionlens.base.records.study import Images
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
MIN_TISSUE_FRACTIONS = (0.8, 0.6, 0.5)
"""Tissue fraction from which a voxel is used for that tissue: white, grey, fluid."""
MIN_VOXELS = 100
MAX_VIEW_MM = 600.0
"""Field of view beyond which an image is of no head; resampling it would take minutes."""
MAX_CLASS_DISTANCE = 6.5
"""Distance to the nearest class, in deviations, beyond which an image is none of the sequences."""
NO_CONTRAST_RANGE = (0.85, 1.25)
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


def register_tissues(image: Floats, grid: Grid, template: Template) -> tuple[Floats, Mask]:
    """Register the tissue maps to an image.

    Parameters
    ----------
    image : (I, J, K) float32
        With or without skull.
    grid : Grid
        RAS+, isotropic, `EDGE_MM`.

    Returns
    -------
    fractions : (3, I, J, K) float32
        White, grey, fluid; 0 to 1.
    inner : (I, J, K) bool
        The brain without its rim.
    """
    template_to_head = np.asarray(np.linalg.inv(register_template(template, image, grid)))
    white, grey, mask = (
        resample(m, template.grid, grid, moved=template_to_head)
        for m in (template.white, template.grey, template.mask)
    )
    fractions = np.stack([white, grey, np.clip(mask - grey - white, 0.0, 1.0)])
    return fractions, np.asarray(depth_inside(mask > 0.5) > MARGIN_MM / EDGE_MM)


def measure_tissues(image: Floats, fractions: Floats, inner: Mask) -> TissueContrast | None:
    """Measure the tissue contrast; None if a tissue is not found.

    Parameters
    ----------
    image : (I, J, K) float32
        Any intensity unit.
    fractions, inner
        From `register_tissues`.
    """
    visible = inner & (image > 0)
    samples = [
        image[visible & (fraction > threshold)]
        for fraction, threshold in zip(fractions, MIN_TISSUE_FRACTIONS, strict=True)
    ]
    if min(sample.size for sample in samples) < MIN_VOXELS:
        return None
    white = float(np.median(samples[0]))
    grey = float(np.median(samples[1])) / white
    low, high = np.quantile(samples[2], (0.15, 0.85)) / white
    bright, brightest = np.quantile(image[visible], (0.98, 0.998)) / white
    return TissueContrast(grey, (float(low), float(high)), (float(bright), float(brightest)))


def posterior(
    features: NDArray[np.float64], means: NDArray[np.float64], inverse: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """Return the (4,) class probabilities, and the distance to the nearest class in deviations."""
    deviations = features - means
    squared = np.einsum("ci,ij,cj->c", deviations, inverse, deviations)
    weight = np.exp(-0.5 * (squared - squared.min()))
    return weight / weight.sum(), float(np.sqrt(squared.min()))


def measure_contrast(values: Floats, grid: Grid) -> TissueContrast | None:
    """Measure the tissue contrast of an image; None if no brain is found.

    Parameters
    ----------
    values : (I, J, K) float32
        Any intensity unit, with or without skull.
    """
    return measure_contrasts([values], grid)[0]


def measure_contrasts(images: Sequence[Floats], grid: Grid) -> list[TissueContrast | None]:
    """Measure the tissue contrast of several images of one head, at least one.

    The template is registered to the first image only; the others are aligned with it.
    """
    if (np.asarray(grid.shape) * grid.spacing_mm).max() > MAX_VIEW_MM:
        return [None] * len(images)
    first, coarse_grid = on_ras_grid(images[0], grid, EDGE_MM)
    fractions, inner = register_tissues(first, coarse_grid, load_template())
    other_images = (on_ras_grid(image, grid, EDGE_MM)[0] for image in images[1:])
    return [measure_tissues(image, fractions, inner) for image in (first, *other_images)]


def probabilities(contrast: TissueContrast) -> dict[MrSequence, float] | None:
    """Return the probability of each sequence; None if the contrast is of none of them."""
    values, distance = posterior(contrast.features, MEANS, INVERSE)
    has_no_contrast = (
        contrast.fluid[0] > NO_CONTRAST_RANGE[0] and contrast.fluid[1] < NO_CONTRAST_RANGE[1]
    )
    if has_no_contrast or distance > MAX_CLASS_DISTANCE:
        return None
    return dict(zip(MrSequence, values.tolist(), strict=True))


def t2_log_odds(images: Images, grid: Grid) -> dict[MrSequence, float]:
    """Return the log odds that each image is T2 rather than T1, T1c or FLAIR, by its contrast.

    Natural logarithm, at most that of 1 / `CONTRADICTED` either way; 0 if the contrast is unusual.
    """
    contrasts = measure_contrasts(tuple(images.values()), grid)
    return dict(zip(images, map(_log_odds, contrasts), strict=True))


def _log_odds(contrast: TissueContrast | None) -> float:
    by_sequence = None if contrast is None else probabilities(contrast)
    if by_sequence is None:
        return 0.0
    probability = by_sequence[MrSequence.T2]
    odds = max(probability, CONTRADICTED) / max(1.0 - probability, CONTRADICTED)
    return float(np.log(odds))
