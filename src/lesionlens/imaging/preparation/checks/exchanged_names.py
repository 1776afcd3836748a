"""Detect exchanged sequence names by comparing images with what is typical of each sequence.

Features are rank correlations between sequences within the brain, the skewness of each intensity
distribution, its change with depth, and which of T1 and T1c has the bright tail. All are
independent of intensity units. Means and covariance are those of twelve people's scans and thirty
synthetic brains (`fit_exchanged_names.py` in `research` makes them).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import combinations, permutations
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import QualityCheck
from lesionlens.base.text import joined_with_and
from lesionlens.imaging.preparation.checks import one_image

Features = dict[str, float]
Model = tuple[list[str], NDArray[np.float64], NDArray[np.float64]]
"""Names of features, their means and covariance."""
LOG_RATIO = 4.0
"""Minimum log-likelihood ratio between names and an exchange for one of the two to be accepted."""
CLEAR = 8.0
"""Minimum log-likelihood ratio between an exchange and another one for it to be the only one named.
In a hundred synthetic brains 6.5 names a wrong one in 6 of 1,800 exchanges, 8 in none.
"""
MIN_LIKELIHOOD = -2.0
"""Log-likelihood per feature below which the images fit no names at all; people and scanners differ
more than the few that are fitted.
"""
_STRIDE = 3
_MIN_VOXELS = 500


@dataclass(frozen=True, slots=True)
class NameVerdict:
    """What the images show of the names of their sequences; empty if the names fit."""

    exchanged: tuple[MrSequence, ...] = ()
    """Two sequences if one exchange clearly fits best, more if it is unclear which names moved."""
    undecided: tuple[MrSequence, ...] = ()
    """Sequences whose names are neither confirmed nor contradicted."""


def check(
    channels: Mapping[MrSequence, NDArray[np.float32]], brain: NDArray[np.bool_], grid: Grid
) -> QualityCheck | None:
    """Check whether two sequences have each other's name; None with fewer than two.

    Parameters
    ----------
    channels : mapping of MrSequence to (I, J, K) float32
        On `grid`, in any unit.
    brain : (I, J, K) bool
        Brain mask.
    grid : Grid
        Of about 1 mm.

    Raises
    ------
    UnusableInputError
        Two sequences are the same image.
    """
    if len(channels) < 2:
        return None
    one_image.refuse_one_image_twice(channels, brain)
    pair = one_image.copies(channels, brain)
    if pair is not None:
        words = (
            f"{listed(pair)} show the same detail: one seems a processed copy of the other. Check "
            "that each is a scan of its own before you trust any result."
        )
        return QualityCheck("names", False, words)
    return _check_of(judge(channels, brain, grid))


def _check_of(found: NameVerdict | None) -> QualityCheck:
    """Return the check that states a verdict; None if too little is visible."""
    if found is None:
        return QualityCheck("names", True, UNSEEN, undecided=True)
    if found.exchanged:
        return QualityCheck("names", False, in_words(found.exchanged))
    if found.undecided:
        words = (
            "The images neither confirm nor contradict the names of "
            f"{listed(found.undecided)}. Make sure that they are right."
        )
        return QualityCheck("names", True, words, undecided=True)
    return QualityCheck("names", True, "Each sequence looks like what it is called.")


UNSEEN = (
    "Too little of the brain is visible in every sequence to compare the images with their names."
)


def in_words(exchanged: tuple[MrSequence, ...]) -> str:
    """Return the notice about an exchange."""
    if len(exchanged) > 2:
        return (
            f"The names of {listed(exchanged)} seem exchanged, but it is unclear how. Check which "
            "is which before you trust any result."
        )
    one, other = (s.display_name for s in exchanged)
    return (
        f"{one} and {other} seem exchanged: the image called {one} looks like {other}, and the "
        "reverse. Check which is which before you trust any result."
    )


def listed(sequences: tuple[MrSequence, ...]) -> str:
    """Return names as "T1, T2 and FLAIR"."""
    return joined_with_and(sequence.display_name for sequence in sequences)


def judge(
    channels: Mapping[MrSequence, NDArray[np.float32]],
    brain: NDArray[np.bool_],
    grid: Grid,
    stride: int = _STRIDE,
) -> NameVerdict | None:
    """Compare the names of images with all other assignments; None if too little is visible.

    Where T2 cannot be told from another sequence, each image's own tissue contrast is measured,
    about a second for all.

    Parameters
    ----------
    channels, brain, grid
        As for `check`, but of any voxel size.
    stride : int
        Subsamples the grid to about 3 mm.
    """
    measured = measure(channels, brain, stride)
    if measured is None:
        return None
    given, model = {s: s for s in channels}, load_model()
    found = verdict(measured, given, model)
    if MrSequence.T2 in found.undecided:
        from lesionlens.imaging.preparation.checks.tissue_contrast import t2_log_odds  # noqa: PLC0415  seldom needed

        found = verdict(measured, given, model, t2_log_odds(channels, grid))
    return found


def measure(
    channels: Mapping[MrSequence, NDArray[np.float32]],
    brain: NDArray[np.bool_],
    stride: int = _STRIDE,
) -> ImageFeatures | None:
    """Compute features within the brain; None if too little is visible or an image is constant."""
    some = (slice(None, None, stride),) * 3
    inside = brain[some]
    use = inside & np.all([image[some] > 0 for image in channels.values()], axis=0)
    if int(use.sum()) < _MIN_VOXELS:
        return None
    depth = ndimage.distance_transform_edt(inside)[use]
    images = {s: image[some][use].astype(np.float64) for s, image in channels.items()}
    if any(np.ptp(np.quantile(v, (0.01, 0.99))) <= 0 for v in images.values()):
        return None
    return ImageFeatures(images, depth)


def verdict(
    measured: ImageFeatures,
    given: Mapping[MrSequence, MrSequence],
    model: Model,
    t2_odds: Mapping[MrSequence, float] = MappingProxyType({}),
) -> NameVerdict:
    """Compare the likelihoods of all assignments of images to names.

    Parameters
    ----------
    given : mapping of MrSequence to MrSequence
        From each name to the image that has it.
    model : Model
        Distribution of the features under correct names.
    t2_odds : mapping of MrSequence to float
        By image, the log odds that it is T2, from its own contrast.
    """
    names, as_given = tuple(given), tuple(given.values())
    likely = {
        images: _log_likelihood(measured.features(dict(zip(names, images, strict=True))), model)
        for images in permutations(as_given)
    }
    lowest = MIN_LIKELIHOOD * len(measured.features(given))

    def moved(images: tuple[MrSequence, ...]) -> tuple[MrSequence, ...]:
        both = zip(names, images, as_given, strict=True)
        return tuple(name for name, image, own in both if image is not own)

    def score(images: tuple[MrSequence, ...]) -> float:
        called_t2 = dict(zip(names, images, strict=True)).get(MrSequence.T2)
        several = LOG_RATIO if len(moved(images)) > 2 else 0.0  # less probable beforehand
        return (
            likely[images] - several + (0.0 if called_t2 is None else t2_odds.get(called_t2, 0.0))
        )

    others = {images: score(images) for images in likely if images != as_given}
    pairs = [images for images in others if len(moved(images)) == 2]
    best = max(others, key=others.__getitem__)
    if others[best] - score(as_given) > LOG_RATIO and likely[best] > lowest:
        near = [i for i in pairs if others[best] - others[i] < CLEAR]
        doubted = {name for images in (best, *near) for name in moved(images)}
        return NameVerdict(exchanged=tuple(name for name in names if name in doubted))
    near = [images for images in pairs if score(as_given) - others[images] < LOG_RATIO]
    doubted = {name for images in near for name in moved(images)}
    if likely[as_given] < lowest:
        doubted = set(names)
    return NameVerdict(undecided=tuple(name for name in names if name in doubted))


class ImageFeatures:
    """Intensity statistics of images, independent of their names."""

    def __init__(
        self, images: Mapping[MrSequence, NDArray[np.float64]], depth: NDArray[np.float64]
    ) -> None:
        ranks = {s: _ranks(v) for s, v in images.items()}
        deep = _ranks(depth)
        self.own = {
            s: (*_median_offset(v), _correlation(ranks[s], deep)) for s, v in images.items()
        }
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


def _median_offset(values: NDArray[np.float64]) -> tuple[float, float]:
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
    with (files("lesionlens.imaging.preparation.checks") / "exchanged_names.npz").open(
        "rb"
    ) as stream:
        kept = np.load(stream)
        return [str(n) for n in kept["names"]], kept["means"], kept["covariance"]
