"""Detect exchanged sequence names by comparing images with what is typical of each sequence.

Features are rank correlations between sequences within the brain, the skewness of each intensity
distribution, its change with depth, and which of T1 and T1c has the bright tail. All are
independent of intensity units. Means and covariance are those of twenty people's scans and thirty
synthetic brains (`fit_exchanged_names.py` in `research` makes them).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from itertools import combinations, permutations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import QualityCheck

Features = dict[str, float]
Model = tuple[list[str], NDArray[np.float64], NDArray[np.float64]]
"""Names of features, their means and covariance."""
LOG_RATIO = 4.0
"""Minimum log-likelihood ratio of an exchange."""
LEAST_LIKELY = -1.6
"""Log-likelihood per feature below which the images fit no names at all."""
ONE_IMAGE = 0.9999
"""Correlation at which two images are the same; T1 and T1c of one person reach .95."""
_STRIDE = 3
_LEAST_VOXELS = 500


def check(
    channels: Mapping[MrSequence, NDArray[np.float32]], brain: NDArray[np.bool_]
) -> QualityCheck | None:
    """Check whether two sequences have each other's name; None with fewer than two.

    Parameters
    ----------
    channels : mapping of MrSequence to (I, J, K) float32
        On one grid, in any unit.
    brain : (I, J, K) bool
        Brain mask.

    Raises
    ------
    UnusableInputError
        Two sequences are the same image.
    """
    if len(channels) < 2:
        return None
    refuse_one_image_twice(channels, brain)
    found = exchanged(channels, brain)
    if found is None:
        return QualityCheck("names", True, "Each sequence looks like what it is called.")
    return QualityCheck("names", False, in_words(found))


def in_words(pair: tuple[MrSequence, MrSequence]) -> str:
    """Return the notice about an exchange."""
    one, other = (s.display_name for s in pair)
    return (
        f"{one} and {other} seem exchanged: the image called {one} looks like {other}, and the "
        "reverse. Check which is which before you trust any result."
    )


def refuse_one_image_twice(
    channels: Mapping[MrSequence, NDArray[np.float32]], brain: NDArray[np.bool_]
) -> None:
    """Refuse the same image under two names, even if rescaled.

    Raises
    ------
    UnusableInputError
        Two sequences are the same image within the brain.
    """
    some = (slice(None, None, 2),) * 3
    inside = brain[some]
    values = {s: image[some][inside].astype(np.float64) for s, image in channels.items()}
    for one, other in combinations(values, 2):
        first, second = (v - v.mean() for v in (values[one], values[other]))
        size = float(np.sqrt((first @ first) * (second @ second)))
        if size > 0 and abs(first @ second) / size > ONE_IMAGE:
            raise UnusableInputError(
                found="one image under two names: "
                f"{one.display_name} and {other.display_name} are the same",
                expected="a different image for each sequence",
                next_step="Name the right file of each, or leave out the one that is missing",
            )


def exchanged(
    channels: Mapping[MrSequence, NDArray[np.float32]],
    brain: NDArray[np.bool_],
    stride: int = _STRIDE,
) -> tuple[MrSequence, MrSequence] | None:
    """Return the two sequences whose exchange fits the images much better, or None.

    `stride` subsamples the grid to about 3 mm.
    """
    measured = measure(channels, brain, stride)
    if measured is None:
        return None
    given = {s: s for s in channels}
    pair, ratio, likelihood = best_exchange(measured, given, load_model())
    sure = is_convincing(ratio, likelihood, len(measured.features(given)))
    return pair if sure else None


def measure(
    channels: Mapping[MrSequence, NDArray[np.float32]],
    brain: NDArray[np.bool_],
    stride: int = _STRIDE,
) -> Measured | None:
    """Compute features within the brain; None if too little is visible or an image is constant."""
    some = (slice(None, None, stride),) * 3
    inside = brain[some]
    use = inside & np.all([image[some] > 0 for image in channels.values()], axis=0)
    if int(use.sum()) < _LEAST_VOXELS:
        return None
    depth = ndimage.distance_transform_edt(inside)[use]
    images = {s: image[some][use].astype(np.float64) for s, image in channels.items()}
    if any(np.ptp(np.quantile(v, (0.01, 0.99))) <= 0 for v in images.values()):
        return None
    return Measured(images, depth)


def best_exchange(
    measured: Measured, given: Mapping[MrSequence, MrSequence], model: Model
) -> tuple[tuple[MrSequence, MrSequence], float, float]:
    """Return the best exchange of two names, its log-likelihood ratio and its log-likelihood.

    Parameters
    ----------
    given : mapping of MrSequence to MrSequence
        From each name to the image that has it.
    model : Model
        Distribution of the features under correct names.
    """
    tried = {
        (a, b): _log_likelihood(measured.features({**given, a: given[b], b: given[a]}), model)
        for a, b in combinations(given, 2)
    }
    pair = max(tried, key=tried.__getitem__)
    return pair, tried[pair] - _log_likelihood(measured.features(given), model), tried[pair]


def is_convincing(ratio: float, likelihood: float, features: int) -> bool:
    """Return whether an exchange is much more likely than the given names, and likely in itself."""
    return ratio > LOG_RATIO and likelihood > LEAST_LIKELY * features


class Measured:
    """Intensity statistics of images, independent of their names."""

    def __init__(
        self, images: Mapping[MrSequence, NDArray[np.float64]], depth: NDArray[np.float64]
    ) -> None:
        ranks = {s: _ranks(v) for s, v in images.items()}
        deep = _ranks(depth)
        self.own = {s: (*_lopsided(v), _correlation(ranks[s], deep)) for s, v in images.items()}
        self.pairs = {(a, b): _correlation(ranks[a], ranks[b]) for a, b in permutations(images, 2)}
        scaled = {s: _scaled(v) for s, v in images.items()}
        self.tails = {(a, b): _tail(scaled[a] - scaled[b]) for a, b in permutations(images, 2)}

    def features(self, images: Mapping[MrSequence, MrSequence]) -> Features:
        """Return the features for an assignment of images to names."""
        found = {
            f"{name} {kind}": value
            for name, image in images.items()
            for kind, value in zip(("skew 1", "skew 10", "depth"), self.own[image], strict=True)
        }
        for one, other in combinations(sorted(images), 2):
            found[f"{one} {other}"] = float(np.arctanh(self.pairs[images[one], images[other]]))
        if MrSequence.T1 in images and MrSequence.T1C in images:
            found["uptake"] = self.tails[images[MrSequence.T1C], images[MrSequence.T1]]
        return found


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ranks from 1, ties averaged; importing `scipy.stats` would take .4 s."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2
    return np.asarray(middle[place], dtype=np.float64)


def _correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float(np.clip(np.corrcoef(one, other)[0, 1], -0.999, 0.999))


def _lopsided(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the offset of the median from the middle of 1-99 % and of 10-90 %, -1 to 1."""
    a, b, c, d, e = np.quantile(values, (0.01, 0.1, 0.5, 0.9, 0.99))
    return float((e + a - 2 * c) / (e - a)), float((d + b - 2 * c) / max(d - b, 1e-9 * (e - a)))


def _scaled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    apart = values - np.median(values)
    return np.asarray(apart / (np.median(np.abs(apart)) or np.abs(apart).mean()))


def _tail(difference: NDArray[np.float64]) -> float:
    low, high = np.quantile(difference, (0.002, 0.998))
    return float(np.log(max(high, 0.1) / max(-low, 0.1)))


def _log_likelihood(features: Features, model: Model) -> float:
    """Return the log-likelihood of features, without constant terms."""
    names, means, covariance = model
    index = [names.index(name) for name in features]
    apart = np.array(list(features.values())) - means[index]
    return float(-0.5 * apart @ np.linalg.solve(covariance[np.ix_(index, index)], apart))


@cache
def load_model() -> Model:
    """Load the shipped model."""
    with (files("lesionlens.imaging.preparation") / "exchanged_names.npz").open("rb") as stream:
        kept = np.load(stream)
        return [str(n) for n in kept["names"]], kept["means"], kept["covariance"]
