"""Check the names and the sides of sequences: swapped names, one image twice, mirrored, turned.

Names are compared with what is typical of each sequence: rank correlations between sequences within
the brain, skewness and change with depth of each, and which of T1 and T1c has the bright tail.
Means and covariance are those of twelve people's scans and thirty synthetic brains
(`training/templates/swapped_names.py` makes them).

Sides are compared by mutual information: every two sequences as they are, and with one mirrored at
the plane of symmetry of the reference. All pairs are judged together, because a tumour may be more
like its mirror image in one of them. That all are mirrored cannot be detected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import combinations, permutations, product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.geometry import Affine, Floats, Mask, centre_mm
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.numerics import dice
from lesionlens.base.records.study import (
    Images,
    QualityCheck,
    failed_check,
    passed_check,
    undecided_check,
)
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.base.shipped_arrays import shipped_arrays
from lesionlens.base.text import joined_with_and
from lesionlens.imaging.preparation.registration import (
    BINS,
    best_start,
    mutual_information,
    pyramid,
    rigid_affine,
)
from lesionlens.imaging.preparation.resampling import HALF, block_means, resample

Features = dict[str, float]
Model = tuple[list[str], NDArray[np.float64], NDArray[np.float64]]
"""Names of features, their means and covariance."""
LOG_RATIO, CLEAR = 4.0, 8.0
"""Log-likelihood ratio between names and a swap for one of the two to be accepted; and between a
swap and another one for it to be the only one named (6.5 names a wrong one in 6 of 1,800 swaps)."""
MIN_LIKELIHOOD = -2.0
"""Log-likelihood per feature below which the images fit no names at all."""
ONE_IMAGE = 0.9999
"""Correlation at which two images are the same; T1 and T1c of one person reach .95."""
_STRIDE, _MIN_VOXELS = 3, 500
BLOCK = (3, 3, 3)
"""Voxels of the working grid averaged along each axis, to compare sides."""
MIRRORED_ABOVE = 0.0
"""Gain of the mirror image above which the sides of two images are considered to differ. Measured
in eighteen people by pair: -.05 to -.82, +.12 once; with one series mirrored .22 to 2.4."""
MIN_INFORMATION_RATIO = 0.01
HALF_TURN_ABOVE = 0.02
"""Gain in Dice from which a half turn is reported: in seventeen people at most -.04 as they lie, at
most .01 with a fifth of the brain cut off or tilted by 30 degrees."""
HALF_TURNS = {
    (0, 1): "left and right, front and back",
    (0, 2): "left and right, top and bottom",
    (1, 2): "front and back, top and bottom",
}
"""Reversed axes of each half turn."""
_POINTS, _ENDS = 40, (0.2, 99.8)
"""Samples along each axis of a brain's shape, and the percentiles at which it ends."""


def refuse_one_image_twice(images: Images, brain: Mask) -> None:
    """Refuse the same image under two names, even if rescaled.

    Raises
    ------
    UnusableInputError
        Two sequences are the same image within the brain.
    """
    inside = brain[::_STRIDE, ::_STRIDE, ::_STRIDE]
    values = {}
    for sequence, image in images.items():
        vector = image[::_STRIDE, ::_STRIDE, ::_STRIDE][inside].astype(np.float64)
        values[sequence] = vector - vector.mean() if vector.size else vector
    for first, second in combinations(values, 2):
        a, b = values[first], values[second]
        if abs(a @ b) > ONE_IMAGE * float(np.sqrt((a @ a) * (b @ b))):
            raise UnusableInputError(
                f"{first.display_name} and {second.display_name} are the same image.",
                hint="Name the right file of each, or leave out the one that is missing.",
            )


def names(images: Images, brain: Mask) -> QualityCheck | None:
    """Check whether two sequences have each other's name; None with fewer than two.

    Parameters
    ----------
    images, brain
        (I, J, K) on one grid of about 1 mm.
    """
    if len(images) < 2:
        return None
    measured = measure(images, brain)
    if measured is None:
        return undecided_check(
            "names",
            "Too little of the brain is visible in every sequence to compare the images with "
            "their names.",
        )
    swapped, undecided = verdict(measured, tuple(images), load_model())
    if swapped:
        return failed_check("names", swap_notice(swapped))
    if undecided:
        return undecided_check(
            "names",
            f"The images neither confirm nor contradict the names of {_listed(undecided)}. Make "
            "sure that they are right.",
        )
    return passed_check("names", "Each image looks like the sequence that it is named after.")


def swap_notice(swapped: tuple[MrSequence, ...]) -> str:
    """Return the notice about a swap of two sequences, or of more in an unclear way."""
    if len(swapped) > 2:
        return (
            f"The names of {_listed(swapped)} seem to be swapped, but it is unclear how. Check "
            "which is which before you trust any result."
        )
    first, second = (s.display_name for s in swapped)
    return (
        f"{first} and {second} seem to be swapped: the image called {first} looks like {second}, "
        "and vice versa. Check which is which before you trust any result."
    )


def _listed(sequences: tuple[MrSequence, ...]) -> str:
    return joined_with_and(sequence.display_name for sequence in sequences)


def verdict(
    measured: ImageFeatures, given: tuple[MrSequence, ...], model: Model
) -> tuple[tuple[MrSequence, ...], tuple[MrSequence, ...]]:
    """Compare the likelihoods of all assignments of images to names.

    Returns
    -------
    swapped : tuple of MrSequence
        Two sequences if one swap clearly fits best, more if it is unclear which names moved.
    undecided : tuple of MrSequence
        Sequences whose names are neither confirmed nor contradicted.
    """
    likelihoods = {
        images: _log_likelihood(measured.features(dict(zip(given, images, strict=True))), model)
        for images in permutations(given)
    }
    renamed = {
        images: tuple(name for name, image in zip(given, images, strict=True) if name is not image)
        for images in likelihoods
    }
    scores = {  # more than one swap is less probable beforehand
        images: likelihood - (LOG_RATIO if len(renamed[images]) > 2 else 0.0)
        for images, likelihood in likelihoods.items()
    }
    minimum = MIN_LIKELIHOOD * len(measured.features({name: name for name in given}))
    as_given = scores.pop(given)
    pairs = [images for images in scores if len(renamed[images]) == 2]
    best = max(scores, key=scores.__getitem__)
    if scores[best] - as_given > LOG_RATIO and likelihoods[best] > minimum:
        close = [best, *(images for images in pairs if scores[best] - scores[images] < CLEAR)]
    elif likelihoods[given] < minimum:
        return (), given
    else:
        close = [images for images in pairs if as_given - scores[images] < LOG_RATIO]
        doubtful = {name for images in close for name in renamed[images]}
        return (), tuple(name for name in given if name in doubtful)
    doubtful = {name for images in close for name in renamed[images]}
    return tuple(name for name in given if name in doubtful), ()


def measure(images: Images, brain: Mask) -> ImageFeatures | None:
    """Compute features within the brain; None if too little is visible or an image is constant."""
    sampling = (slice(None, None, _STRIDE),) * 3
    inside = brain[sampling]
    visible = inside & np.all([image[sampling] > 0 for image in images.values()], axis=0)
    if int(visible.sum()) < _MIN_VOXELS:
        return None
    depth = ndimage.distance_transform_edt(inside)[visible]
    values = {s: image[sampling][visible].astype(np.float64) for s, image in images.items()}
    if any(np.ptp(np.quantile(v, (0.01, 0.99))) <= 0 for v in values.values()):
        return None
    return ImageFeatures(values, depth)


class ImageFeatures:
    """Intensity statistics of images, independent of their names and units."""

    def __init__(
        self, images: Mapping[MrSequence, NDArray[np.float64]], depth: NDArray[np.float64]
    ) -> None:
        ranks, depth_ranks = {s: _ranks(v) for s, v in images.items()}, _ranks(depth)
        scaled = {s: _scaled_to_spread(v) for s, v in images.items()}
        self.own = {
            s: (*_median_offset(v), _correlation(ranks[s], depth_ranks)) for s, v in images.items()
        }
        self.pairs = {(a, b): _correlation(ranks[a], ranks[b]) for a, b in permutations(images, 2)}
        self.tails = {(a, b): _tail(scaled[a] - scaled[b]) for a, b in permutations(images, 2)}

    def features(self, images: Mapping[MrSequence, MrSequence]) -> Features:
        """Return the features for an assignment of images to names."""
        result = {
            f"{name} {kind}": value
            for name, image in images.items()
            for kind, value in zip(("skew 1", "skew 10", "depth"), self.own[image], strict=True)
        }
        for first, second in combinations(sorted(images), 2):
            correlation = self.pairs[images[first], images[second]]
            result[f"{first} {second}"] = float(np.arctanh(correlation))
        if MrSequence.T1 in images and MrSequence.T1C in images:
            result["uptake"] = self.tails[images[MrSequence.T1C], images[MrSequence.T1]]
        return result


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ranks from 1, ties averaged; importing `scipy.stats` would take .4 s."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean_ranks = np.cumsum(counts) - (counts - 1) / 2
    return np.asarray(mean_ranks[inverse], dtype=np.float64)


def _correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    return float(np.clip(np.corrcoef(first, second)[0, 1], -0.999, 0.999))


def _median_offset(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the offset of the median from the middle of 1-99% and of 10-90%, -1 to 1."""
    a, b, c, d, e = np.quantile(values, (0.01, 0.1, 0.5, 0.9, 0.99))
    return float((e + a - 2 * c) / (e - a)), float((d + b - 2 * c) / max(d - b, 1e-9 * (e - a)))


def _scaled_to_spread(values: NDArray[np.float64]) -> NDArray[np.float64]:
    offsets = values - np.median(values)
    return np.asarray(offsets / (np.median(np.abs(offsets)) or np.abs(offsets).mean()))


def _tail(difference: NDArray[np.float64]) -> float:
    low, high = np.quantile(difference, (0.002, 0.998))
    return float(np.log(max(high, 0.1) / max(-low, 0.1)))


def _log_likelihood(features: Features, model: Model) -> float:
    """Return the log-likelihood of features, without constant terms."""
    known, means, covariance = model
    index = [known.index(name) for name in features]
    deviation = np.array(list(features.values())) - means[index]
    return float(-0.5 * deviation @ np.linalg.solve(covariance[np.ix_(index, index)], deviation))


@cache
def load_model() -> Model:
    """Load the shipped model."""
    with shipped_arrays("lesionlens.imaging.preparation", "swapped_names.npz") as stored:
        return [str(n) for n in stored["names"]], stored["means"], stored["covariance"]


def sides(
    images: Images,
    reference: MrSequence,
    brain: Mask,
    grid: Grid,
    *,
    context: RunContext = SILENT,
) -> QualityCheck | None:
    """Check whether left and right agree between the sequences; None with fewer than two.

    The others are compared with the reference; the grid is axis-aligned RAS+ and isotropic.
    """
    if len(images) < 2:
        return None
    order = (reference, *(s for s in images if s is not reference))
    coarse = {s: block_means(images[s], grid, BLOCK)[0] for s in order}
    inside, coarse_grid = block_means(brain, grid, BLOCK)
    reflection = symmetry(coarse[reference], coarse_grid, context=context)
    gains = {
        (a, b): mirror_gain(coarse[a], coarse[b], inside > HALF, coarse_grid, reflection)
        for a, b in combinations(order, 2)
    }
    swapped = mirrored(order, gains)
    figures = ", ".join(f"{s.display_name} {gains[reference, s]:+z.0%}" for s in order[1:])
    figures = f"change in fit with {reference.display_name} if mirrored: {figures}"
    if not swapped:
        return passed_check("sides", f"Left and right agree between the sequences ({figures}).")
    most_swapped = 2 * len(swapped) > len(order)
    accused = ", ".join(s.display_name for s in order if (s in swapped) is not most_swapped)
    return failed_check(
        "sides",
        f"{accused}: left and right seem swapped, relative to the other sequences ({figures}). "
        "Check the sides before you rely on them.",
    )


def mirrored(
    order: Sequence[MrSequence], gains: Mapping[tuple[MrSequence, MrSequence], float]
) -> frozenset[MrSequence]:
    """Return the sequences whose sides differ from those of the first, as all pairs fit best.

    Parameters
    ----------
    gains : mapping of (MrSequence, MrSequence) to float
        For every two in that order, the relative gain when one of them is mirrored.
    """
    logs = {pair: np.log(max(1.0 + gain, MIN_INFORMATION_RATIO)) for pair, gain in gains.items()}

    def misfit(swapped: frozenset[MrSequence]) -> float:
        return sum(float(-g if len(swapped & {*pair}) == 1 else g) for pair, g in logs.items())

    choices = product((False, True), repeat=len(order) - 1)
    sets = [
        frozenset(s for s, is_swapped in zip(order[1:], choice, strict=True) if is_swapped)
        for choice in choices
    ]
    return min(sets, key=misfit)


def symmetry(values: Floats, grid: Grid, *, context: RunContext = SILENT) -> Affine:
    """Estimate the reflection that maps a head to itself.

    Returns
    -------
    (4, 4) float64
        RAS+ mm to RAS+ mm, of determinant -1: the left hemisphere's points go to the right's.
    """
    flip = np.eye(4)
    flip[0, 0], flip[0, 3] = -1.0, 2.0 * float(centre_mm(grid.affine, grid.shape)[0])
    level = (float(grid.spacing_mm.max()),)
    start = best_start(
        pyramid(values, grid, levels_mm=level),
        pyramid(values[::-1], grid, levels_mm=level),
        context=context,
    )
    return flip if start is None else np.asarray(flip @ rigid_affine(start))


def mirror_gain(
    fixed: Floats, moving: Floats, inside: Mask, grid: Grid, reflection: Affine
) -> float:
    """Return the relative gain in mutual information when a sequence is mirrored."""
    reflected = resample(moving, grid, grid, moved=reflection)
    visible = inside & (reflected > 0) & (moving > 0)
    if int(visible.sum()) < BINS * BINS:
        return 0.0
    as_is, flipped = (mutual_information(fixed[visible], v[visible]) for v in (moving, reflected))
    return flipped / as_is - 1.0 if as_is > 1e-6 else 0.0


def half_turn(brain: Mask) -> QualityCheck | None:
    """Compare a brain's shape with the template's after each half turn; None if it fits worse.

    Arrays that were saved with a made-up affine, such as an identity, often lie half a turn from
    what their headers say, and no sequence contradicts another one.

    Parameters
    ----------
    brain : (I, J, K) bool
        On an axis-aligned RAS+ grid.
    """
    if not brain.any():
        return None
    template, shape = _shape_of(template_brain()), _shape_of(brain)
    gains = {
        axes: dice(template, np.flip(shape, axes)) - dice(template, shape) for axes in HALF_TURNS
    }
    best = max(gains, key=gains.__getitem__)
    if gains[best] <= HALF_TURN_ABOVE:
        return None
    return failed_check(
        "orientation",
        "The head seems to be rotated by half a turn relative to the headers "
        f"({HALF_TURNS[best]} swapped), as after saving with an arbitrary affine. Check the "
        "sides before you rely on them.",
    )


@cache
def template_brain() -> Mask:
    """Return the brain mask of the shipped MNI template, (I, J, K) bool, RAS+."""
    with shipped_arrays("lesionlens.imaging.preparation", "template.npz") as stored:
        return np.asarray(stored["maps"][2] > 255 * HALF)


def _shape_of(mask: Mask) -> Mask:
    """Return a mask resampled to `_POINTS` cubed, from end to end along each axis."""
    counts = (mask.sum((1, 2)), mask.sum((0, 2)), mask.sum((0, 1)))
    ends = [np.percentile(np.repeat(np.arange(len(n)), n), _ENDS) for n in counts]
    lattice = np.meshgrid(*(np.linspace(low, high, _POINTS) for low, high in ends), indexing="ij")
    return np.asarray(ndimage.map_coordinates(mask.astype(np.float32), lattice, order=1) > HALF)
