"""Detect swapped sequence names by comparing images with what is typical of each sequence.

Features are rank correlations between sequences within the brain, the skewness of each intensity
distribution, its change with depth, and which of T1 and T1c has the bright tail. All are
independent of intensity units. Means and covariance are those of twelve people's scans and thirty
synthetic brains (`training/templates/swapped_names.py` makes them).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import combinations, permutations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.geometry import Mask
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import (
    Images,
    QualityCheck,
    failed_check,
    passed_check,
    undecided_check,
)
from lesionlens.base.shipped_arrays import shipped_arrays
from lesionlens.base.text import joined_with_and

Features = dict[str, float]
Model = tuple[list[str], NDArray[np.float64], NDArray[np.float64]]
"""Names of features, their means and covariance."""
LOG_RATIO = 4.0
"""Minimum log-likelihood ratio between names and a swap for one of the two to be accepted."""
CLEAR = 8.0
"""Minimum log-likelihood ratio between a swap and another one for it to be the only one named.
In a hundred synthetic brains 6.5 names a wrong one in 6 of 1,800 swaps, 8 in none.
"""
MIN_LIKELIHOOD = -2.0
"""Log-likelihood per feature below which the images fit no names at all; people and scanners differ
more than the few that are fitted.
"""
ONE_IMAGE = 0.9999
"""Correlation at which two images are the same; T1 and T1c of one person reach .95."""
_STRIDE = 3
_MIN_VOXELS = 500


@dataclass(frozen=True, slots=True)
class NameVerdict:
    """What the images show of the names of their sequences; empty if the names fit."""

    swapped: tuple[MrSequence, ...] = ()
    """Two sequences if one swap clearly fits best, more if it is unclear which names moved."""
    undecided: tuple[MrSequence, ...] = ()
    """Sequences whose names are neither confirmed nor contradicted."""


def check(channels: Images, brain: Mask) -> QualityCheck | None:
    """Check whether two sequences have each other's name; None with fewer than two.

    The voxels are of about 1 mm.

    Raises
    ------
    UnusableInputError
        Two sequences are the same image.
    """
    if len(channels) < 2:
        return None
    _refuse_one_image_twice(channels, brain)
    return _check_of(judge(channels, brain))


def _refuse_one_image_twice(channels: Images, brain: Mask) -> None:
    """Refuse the same image under two names, even if rescaled.

    Raises
    ------
    UnusableInputError
        Two sequences are the same image within the brain.
    """
    every_second = (slice(None, None, 2),) * 3
    inside = brain[every_second]
    values = {}
    for sequence, image in channels.items():
        vector = image[every_second][inside].astype(np.float64)
        values[sequence] = vector - vector.mean()
    for first, second in combinations(values, 2):
        a, b = values[first], values[second]
        if abs(a @ b) > ONE_IMAGE * float(np.sqrt((a @ a) * (b @ b))):
            raise UnusableInputError(
                found="one image under two names: "
                f"{first.display_name} and {second.display_name} are the same",
                expected="a different image for each sequence",
                next_step="Name the right file of each, or leave out the one that is missing",
            )


def _check_of(result: NameVerdict | None) -> QualityCheck:
    """Return the check that states a verdict; None if too little is visible."""
    if result is None:
        return undecided_check("names", TOO_LITTLE_VISIBLE)
    if result.swapped:
        return failed_check("names", swap_notice(result.swapped))
    if result.undecided:
        return undecided_check(
            "names",
            "The images neither confirm nor contradict the names of "
            f"{listed(result.undecided)}. Make sure that they are right.",
        )
    return passed_check("names", "Each image looks like the sequence that it is named after.")


TOO_LITTLE_VISIBLE = (
    "Too little of the brain is visible in every sequence to compare the images with their names."
)


def swap_notice(swapped: tuple[MrSequence, ...]) -> str:
    """Return the notice about a swap."""
    if len(swapped) > 2:
        return (
            f"The names of {listed(swapped)} seem to be swapped, but it is unclear how. Check "
            "which is which before you trust any result."
        )
    first, second = (s.display_name for s in swapped)
    return (
        f"{first} and {second} seem to be swapped: the image called {first} looks like {second}, "
        "and vice versa. Check which is which before you trust any result."
    )


def listed(sequences: tuple[MrSequence, ...]) -> str:
    """Return names as "T1, T2 and FLAIR"."""
    return joined_with_and(sequence.display_name for sequence in sequences)


def judge(channels: Images, brain: Mask) -> NameVerdict | None:
    """Compare the names of images with all other assignments; None if too little is visible."""
    features = measure(channels, brain)
    if features is None:
        return None
    return verdict(features, {s: s for s in channels}, load_model())


def measure(channels: Images, brain: Mask) -> ImageFeatures | None:
    """Compute features within the brain; None if too little is visible or an image is constant."""
    sampling = (slice(None, None, _STRIDE),) * 3
    inside = brain[sampling]
    visible = inside & np.all([image[sampling] > 0 for image in channels.values()], axis=0)
    if int(visible.sum()) < _MIN_VOXELS:
        return None
    depth = ndimage.distance_transform_edt(inside)[visible]
    images = {s: image[sampling][visible].astype(np.float64) for s, image in channels.items()}
    if any(np.ptp(np.quantile(v, (0.01, 0.99))) <= 0 for v in images.values()):
        return None
    return ImageFeatures(images, depth)


def verdict(
    features: ImageFeatures,
    assignment: Mapping[MrSequence, MrSequence],
    model: Model,
) -> NameVerdict:
    """Compare the likelihoods of all assignments of images to names.

    Parameters
    ----------
    assignment : mapping of MrSequence to MrSequence
        From each name to the image that has it.
    """
    names, current = tuple(assignment), tuple(assignment.values())
    log_likelihoods = {
        images: _log_likelihood(features.features(dict(zip(names, images, strict=True))), model)
        for images in permutations(current)
    }
    minimum = MIN_LIKELIHOOD * len(features.features(assignment))

    def renamed(images: tuple[MrSequence, ...]) -> tuple[MrSequence, ...]:
        rows = zip(names, images, current, strict=True)
        return tuple(name for name, image, current_image in rows if image is not current_image)

    def score(images: tuple[MrSequence, ...]) -> float:
        penalty = LOG_RATIO if len(renamed(images)) > 2 else 0.0  # less probable beforehand
        return log_likelihoods[images] - penalty

    scores = {images: score(images) for images in log_likelihoods if images != current}
    pairs = [images for images in scores if len(renamed(images)) == 2]
    best = max(scores, key=scores.__getitem__)
    if scores[best] - score(current) > LOG_RATIO and log_likelihoods[best] > minimum:
        close = [i for i in pairs if scores[best] - scores[i] < CLEAR]
        doubtful = {name for images in (best, *close) for name in renamed(images)}
        return NameVerdict(swapped=tuple(name for name in names if name in doubtful))
    close = [images for images in pairs if score(current) - scores[images] < LOG_RATIO]
    doubtful = {name for images in close for name in renamed(images)}
    if log_likelihoods[current] < minimum:
        doubtful = set(names)
    return NameVerdict(undecided=tuple(name for name in names if name in doubtful))


class ImageFeatures:
    """Intensity statistics of images, independent of their names."""

    def __init__(
        self, images: Mapping[MrSequence, NDArray[np.float64]], depth: NDArray[np.float64]
    ) -> None:
        ranks = {s: _ranks(v) for s, v in images.items()}
        depth_ranks = _ranks(depth)
        self.own = {
            s: (*_median_offset(v), _correlation(ranks[s], depth_ranks)) for s, v in images.items()
        }
        self.pairs = {(a, b): _correlation(ranks[a], ranks[b]) for a, b in permutations(images, 2)}
        scaled = {s: _scaled(v) for s, v in images.items()}
        self.tails = {(a, b): _tail(scaled[a] - scaled[b]) for a, b in permutations(images, 2)}

    def features(self, images: Mapping[MrSequence, MrSequence]) -> Features:
        """Return the features for an assignment of images to names."""
        result = {
            f"{name} {kind}": value
            for name, image in images.items()
            for kind, value in zip(("skew 1", "skew 10", "depth"), self.own[image], strict=True)
        }
        for first, second in combinations(sorted(images), 2):
            result[f"{first} {second}"] = float(
                np.arctanh(self.pairs[images[first], images[second]])
            )
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


def _scaled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    offsets = values - np.median(values)
    return np.asarray(offsets / (np.median(np.abs(offsets)) or np.abs(offsets).mean()))


def _tail(difference: NDArray[np.float64]) -> float:
    low, high = np.quantile(difference, (0.002, 0.998))
    return float(np.log(max(high, 0.1) / max(-low, 0.1)))


def _log_likelihood(features: Features, model: Model) -> float:
    """Return the log-likelihood of features, without constant terms."""
    names, means, covariance = model
    index = [names.index(name) for name in features]
    deviation = np.array(list(features.values())) - means[index]
    return float(-0.5 * deviation @ np.linalg.solve(covariance[np.ix_(index, index)], deviation))


@cache
def load_model() -> Model:
    """Load the shipped model."""
    with shipped_arrays("lesionlens.imaging.preparation.checks", "swapped_names.npz") as stored:
        return [str(n) for n in stored["names"]], stored["means"], stored["covariance"]
