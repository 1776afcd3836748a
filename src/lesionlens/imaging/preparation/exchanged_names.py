"""Check the names of the sequences: compare each image with what is typical of its sequence.

Rank correlations between the sequences within the brain, how lopsided each one's brightness is, how
it changes with depth, and which of T1 and T1c has the bright tail. All are free of the unit of
brightness. Means and covariance are those of twenty people's scans and thirty synthetic brains
(`fit_exchanged_names.py` in `research` makes them).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
"""Logarithm of the likelihood ratio from which exchanged names explain the images better.
Measured, each case left out of the fit: docs/explanation/checks_measured.md."""
LEAST_LIKELY = -1.6
"""Log-likelihood for each feature, below which the images fit no names at all."""
ONE_IMAGE = 0.9999
"""Correlation from which two images are one; T1 and T1c of one person reach .95."""
_STRIDE = 3
_LEAST_VOXELS = 500


@dataclass(frozen=True, slots=True)
class Exchange:
    """Two sequences whose names seem exchanged."""

    pair: tuple[MrSequence, MrSequence]
    log_ratio: float
    """How much likelier the images are with the names exchanged."""


def check(
    channels: Mapping[MrSequence, NDArray[np.float32]], brain: NDArray[np.bool_]
) -> QualityCheck | None:
    """Report whether two sequences carry each other's name; None with fewer than two.

    Parameters
    ----------
    channels : mapping of MrSequence to (I, J, K) float32
        Together on one grid, any unit.
    brain : (I, J, K) bool
        Brain mask.

    Raises
    ------
    UnusableInputError
        Two sequences are one image.
    """
    if len(channels) < 2:
        return None
    refuse_one_image_twice(channels, brain)
    found = exchanged(channels, brain)
    if found is None:
        return QualityCheck("names", True, "Each sequence looks like what it is called.")
    return QualityCheck("names", False, in_words(found))


def in_words(found: Exchange) -> str:
    """Return the notice of an exchange."""
    one, other = (s.words for s in found.pair)
    return (
        f"{one} and {other} seem exchanged: the image called {one} looks like {other}, and the "
        "reverse. Check which is which before you trust any result."
    )


def refuse_one_image_twice(
    channels: Mapping[MrSequence, NDArray[np.float32]], brain: NDArray[np.bool_]
) -> None:
    """Refuse one image that was given under two names, also where its unit differs.

    Raises
    ------
    UnusableInputError
        Within the brain two sequences are one image.
    """
    some = (slice(None, None, 2),) * 3
    inside = brain[some]
    values = {s: image[some][inside].astype(np.float64) for s, image in channels.items()}
    for one, other in combinations(values, 2):
        first, second = (v - v.mean() for v in (values[one], values[other]))
        size = float(np.sqrt((first @ first) * (second @ second)))
        if size > 0 and abs(first @ second) / size > ONE_IMAGE:
            raise UnusableInputError(
                found=f"one image under two names: {one.words} and {other.words} are the same",
                expected="a different image for each sequence",
                next_step="Name the right file of each, or leave out the one that is missing",
            )


def exchanged(
    channels: Mapping[MrSequence, NDArray[np.float32]],
    brain: NDArray[np.bool_],
    stride: int = _STRIDE,
) -> Exchange | None:
    """Return the two sequences whose exchange explains the images much better, or None.

    `stride` makes steps of about 3 mm of the grid.
    """
    measured = measure(channels, brain, stride)
    if measured is None:
        return None
    given = {s: s for s in channels}
    pair, ratio, likelihood = best_exchange(measured, given, load_model())
    sure = convincing(ratio, likelihood, len(measured.features(given)))
    return Exchange(pair, ratio) if sure else None


def measure(
    channels: Mapping[MrSequence, NDArray[np.float32]],
    brain: NDArray[np.bool_],
    stride: int = _STRIDE,
) -> Measured | None:
    """Measure images within the brain; None if too little of it is shown, or one is flat."""
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
    measured : Measured
        Of the images.
    given : mapping of MrSequence to MrSequence
        From the name to the image that carries it.
    model : Model
        What the features of right names are like.
    """
    tried = {
        (a, b): _log_likelihood(measured.features({**given, a: given[b], b: given[a]}), model)
        for a, b in combinations(given, 2)
    }
    pair = max(tried, key=tried.__getitem__)
    return pair, tried[pair] - _log_likelihood(measured.features(given), model), tried[pair]


def convincing(ratio: float, likelihood: float, features: int) -> bool:
    """Whether an exchange is much likelier than the given names, and likely in itself."""
    return ratio > LOG_RATIO and likelihood > LEAST_LIKELY * features


class Measured:
    """What was measured of images, whatever they are called."""

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
        """Return the features, where each name stands for the image of another."""
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
    """Return ranks from 1, ties at their mean: `scipy.stats` would take .4 s to import."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2
    return np.asarray(middle[place], dtype=np.float64)


def _correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float(np.clip(np.corrcoef(one, other)[0, 1], -0.999, 0.999))


def _lopsided(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return how far the median lies from the middle, of 1-99 % and of 10-90 %, -1 to 1."""
    a, b, c, d, e = np.quantile(values, (0.01, 0.1, 0.5, 0.9, 0.99))
    return float((e + a - 2 * c) / (e - a)), float((d + b - 2 * c) / max(d - b, 1e-9 * (e - a)))


def _scaled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    apart = values - np.median(values)
    return np.asarray(apart / (np.median(np.abs(apart)) or np.abs(apart).mean()))


def _tail(difference: NDArray[np.float64]) -> float:
    low, high = np.quantile(difference, (0.002, 0.998))
    return float(np.log(max(high, 0.1) / max(-low, 0.1)))


def _log_likelihood(features: Features, model: Model) -> float:
    """Return the log-likelihood of features, but for what all assignments share."""
    names, means, covariance = model
    index = [names.index(name) for name in features]
    apart = np.array(list(features.values())) - means[index]
    return float(-0.5 * apart @ np.linalg.solve(covariance[np.ix_(index, index)], apart))


@cache
def load_model() -> Model:
    """Return the model that the package holds."""
    with (files("lesionlens.imaging.preparation") / "exchanged_names.npz").open("rb") as stream:
        kept = np.load(stream)
        return [str(n) for n in kept["names"]], kept["means"], kept["covariance"]
