"""Correct strong surface-coil shading, which is outside the network's training distribution.

The bright side of such an image looks like enhancement or oedema. N4 leaves most of
it, because its field is regularised towards zero for such large differences.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, combinations, product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.geometry import Floats, Mask
from lesionlens.base.labels import MrSequence
from lesionlens.base.numerics import quadratic, weighted_fit

STRONG = (2.6, 3.4)
"""Ratio of the field within the brain (98th over 2nd percentile) at which correction begins and at
which it is complete; between them the corrected part rises with the logarithm of the ratio.
Measured: 1.1 to 2.6 in 73 sequences of twenty-one people, 3.4 in one with a false candidate.
"""
STRONG_LINEAR = (1.75, 2.25)
"""The same for the linear part of the field, to which anatomy contributes little: at most 1.72 in
67 sequences of seventeen people.
"""
COMMON = (2.0, 2.4)
"""The same for the mean of the fields of all four sequences, in which their contrasts cancel each
other, so that it shows what one coil does to all of them. Measured: at most 1.83 in sixteen people;
2.0 and more in 14 of them shaded 2.5 to 1 towards the rim, 2.3 and more in all towards the centre.
"""
COMMON_WITHOUT = (2.0, 2.1)
"""The same for the weakest of the mean fields fitted without one half or quarter of the brain: of
sixteen people, lesions of a quarter of a hemisphere, bright in all four sequences, had 2.0 and more
in six by one fit and in one by the weakest, shaded heads in 46 of 48 and in 43.
"""
_MIN_SHARE = 0.5
"""Part of the mean field that each sequence must have, so that each is more even without it.
Measured in fifteen people: .56 and more in 43 of 44 studies with all four shaded 2.5 to 1, at most
.48 where two or three are shaded 6 to 1.
"""
_SAMPLE = 40  # sampled voxels along each axis, approximately
_MIN_VOX = 500
_ITERATIONS = 5
_OUTLIER_SCALE = 2.0  # deviations at which a voxel's weight is one half
_SUSPECT_DEVIATIONS = 2.5  # deviations of a voxel that may belong to a lesion


@dataclass(frozen=True, slots=True, eq=False)
class Shading:
    """The shading of an image within the brain."""

    strength: float
    """Ratio of the field's 98th to its 2nd percentile; 1 means none."""
    linear_strength: float
    """The same ratio for the linear part of the field."""
    corrected_fraction: float
    """Corrected fraction of the whole field or of its linear part, 0 to 1."""
    field: NDArray[np.float64] | None = None
    """(I, J, K): logarithm of the divisor; None if nothing is corrected."""
    common_strength: float | None = None
    """Ratio of a field that all four sequences share and that is corrected first: the strengths
    are then of what it leaves. None if it is weak."""
    common_fraction: float = 0.0
    """Corrected fraction of the common field, 0 to 1."""

    @property
    def ratio(self) -> float:
        """The reported ratio: of a strong field, else of its linear part; with the common field."""
        is_strong = self.strength >= STRONG[0]
        own = self.strength if is_strong else self.linear_strength
        if self.common_strength is None:
            return own
        is_corrected = is_strong or self.linear_strength > STRONG_LINEAR[0]
        if not is_corrected:
            return self.common_strength
        return float(self.common_strength**self.common_fraction * own)


def shading_of(images: Mapping[MrSequence, Floats], brain: Mask) -> dict[MrSequence, Shading]:
    """Estimate the shading of each sequence, excluding possible lesions in any of them.

    Parameters
    ----------
    images : mapping of MrSequence to (I, J, K) float32
        On one grid; voxels <= 0 are ignored.
    brain : (I, J, K) bool
        Region of the estimate.

    Returns
    -------
    dict
        Without sequences that show too little of the brain.

    Notes
    -----
    The field's logarithm is a quadratic in the three axes, fitted to that of the intensities by
    iteratively reweighted least squares, so that lesions, vessels and fluid have little weight. It
    is fitted twice: to the whole brain, and without voxels that stand out in any sequence. If the
    two fits disagree, the weaker field is used, or none if the signs differ. A strong mean field of
    four sequences is corrected in each of them first, if each has at least half of it.
    """
    steps = tuple(slice(None, None, max(length // _SAMPLE, 1)) for length in brain.shape)
    axes = [np.linspace(-1, 1, length) for length in brain.shape]
    terms = quadratic(*(axis[step] for axis, step in zip(axes, steps, strict=True)))
    sampled = {s: image[steps] for s, image in images.items()}
    samples = _fitted(sampled, brain[steps], terms)
    if not samples:
        return {}
    suspected = _suspected(samples.values())
    robust = _robust(samples, suspected)
    common = None
    if len(samples) == len(MrSequence):
        common = _common_field(samples, robust, suspected, brain[steps], axes)
    if common is None:
        return {s: sample.shading(robust[s], axes) for s, sample in samples.items()}
    evened = {s: remove_shading(values, common.at(steps)) for s, values in sampled.items()}
    samples = _fitted(evened, brain[steps], terms)
    robust = _robust(samples, _suspected(samples.values()))
    return {s: common.with_own(sample.shading(robust[s], axes)) for s, sample in samples.items()}


def _fitted(images: Mapping[MrSequence, Floats], brain: Mask, terms: Floats) -> Samples:
    """Return the samples of the sequences that show enough of the brain, with their fields."""
    samples = {s: _Sample(values, brain, terms) for s, values in images.items()}
    return {s: sample for s, sample in samples.items() if sample.is_sufficient}


def _suspected(samples: Collection[_Sample]) -> Mask:
    """Return the voxels that may belong to a lesion in any sequence."""
    return np.asarray(np.any([sample.suspected() for sample in samples], axis=0))


def _robust(samples: Samples, excluded: Mask) -> Coefficients:
    """Return the coefficients of each sequence's field, fitted without some voxels."""
    return {s: sample.robust_coefficients(excluded) for s, sample in samples.items()}


@dataclass(frozen=True, slots=True, eq=False)
class _Common:
    """The corrected part of the mean field of all sequences."""

    strength: float
    fraction: float
    field: NDArray[np.float64]

    def at(self, steps: tuple[slice, ...]) -> Shading:
        """Return the shading of a sample of the voxels."""
        return Shading(self.strength, 1.0, self.fraction, self.field[steps])

    def with_own(self, own: Shading) -> Shading:
        """Return the shading of a sequence: the common field, and what it leaves."""
        field, fraction = self.field, self.fraction
        if own.field is not None:
            field = field + own.field
            logs = fraction * np.log(self.strength), np.log(own.ratio)
            fraction = float((logs[0] + own.corrected_fraction * logs[1]) / sum(logs))
        return replace(
            own,
            corrected_fraction=fraction,
            field=field,
            common_strength=self.strength,
            common_fraction=self.fraction,
        )


def _common_field(
    samples: Samples,
    robust: Coefficients,
    suspected: Mask,
    brain: Mask,
    axes: list[NDArray[np.float64]],
) -> _Common | None:
    """Return what to correct of the mean of the sequences' fields; None if weak or not shared.

    Notes
    -----
    A coil's field can be estimated without any half or quarter of the brain, that of a large lesion
    only where the lesion lies.
    """
    coefficients, (low, median, high) = _mean_field(samples, robust)
    strength = float(np.exp(high - low))
    fraction = correction_fraction(strength, COMMON)
    if fraction == 0:
        return None
    shares = [
        _share(sample.field_of(robust[s]), sample.field_of(coefficients))
        for s, sample in samples.items()
    ]
    if min(shares) < _MIN_SHARE:
        return None
    for part in _parts(brain):
        _, (low_without, _, high_without) = _mean_field(samples, _robust(samples, suspected | part))
        without = float(np.exp(high_without - low_without))
        fraction = min(fraction, correction_fraction(without, COMMON_WITHOUT))
        if fraction == 0:
            return None
    field = np.tensordot(coefficients, quadratic(*axes), 1).clip(low, high) - median
    return _Common(strength, fraction, fraction * field)


def _parts(brain: Mask) -> Iterator[Mask]:
    """Yield the halves of the brain along each axis, and its quarters along each pair of axes."""
    places = np.indices(brain.shape)
    beyond = [places[axis] > np.median(places[axis][brain]) for axis in range(3)]
    halves = [(half, ~half) for half in beyond]
    yield from chain.from_iterable(halves)
    for one, other in combinations(halves, 2):
        for first, second in product(one, other):
            yield first & second


def _mean_field(
    samples: Samples, robust: Coefficients
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean coefficients, and the percentiles 2, 50 and 98 of their field."""
    coefficients = np.asarray(np.mean(list(robust.values()), axis=0))
    fitted = np.concatenate([sample.field_of(coefficients) for sample in samples.values()])
    return coefficients, np.percentile(fitted, (2, 50, 98))


def _share(own: NDArray[np.float64], common: NDArray[np.float64]) -> float:
    """Return how much of a common field an own one has, by least squares: 1 if they are equal."""
    centred = common - common.mean()
    return float(own @ centred / (centred @ centred))


def remove_shading(values: Floats, shading: Shading) -> Floats:
    """Return an image divided by its estimated shading."""
    if shading.field is None:
        return values
    return np.asarray(values * np.exp(-shading.field), dtype=np.float32)


def correction_fraction(strength: float, bounds: tuple[float, float] = STRONG) -> float:
    """Return the fraction of a field's logarithm to correct, 0 to 1.

    Examples
    --------
    >>> [round(correction_fraction(strength), 2) for strength in (2.5, 3.0, 4.0)]
    [0.0, 0.53, 1.0]
    """
    low, high = np.log(bounds)
    return float(np.clip((np.log(strength) - low) / (high - low), 0.0, 1.0))


class _Sample:
    """A sample of voxels, and the fields fitted to them."""

    def __init__(self, values: Floats, brain: Mask, terms: Floats) -> None:
        self._visible = brain & (values > 0)
        self.is_sufficient = int(self._visible.sum()) >= _MIN_VOX
        if self.is_sufficient:
            self._rows = terms[:, self._visible].T
            self._logs = np.log(values[self._visible].astype(np.float64))
            self._coefficients, self._residuals = self._fit(np.ones(len(self._logs), bool))

    def _fit(self, use: Mask) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the field's coefficients, and each voxel's residual in deviations."""
        weights = use.astype(np.float64)
        coefficients, residuals = np.zeros(self._rows.shape[1]), self._logs
        for _ in range(_ITERATIONS):
            coefficients = weighted_fit(self._rows, self._logs, weights)
            differences = self._logs - self._rows @ coefficients
            residuals = differences / (1.48 * float(np.median(np.abs(differences[use]))) + 1e-6)
            weights = use / (1 + (residuals / _OUTLIER_SCALE) ** 2)
        return coefficients, residuals

    def suspected(self) -> Mask:
        """Return the mask of clusters that deviate from the field as a lesion does."""
        deviating = np.zeros(self._visible.shape, bool)
        deviating[self._visible] = np.abs(self._residuals) > _SUSPECT_DEVIATIONS
        return np.asarray(ndimage.binary_dilation(ndimage.binary_opening(deviating)))

    def robust_coefficients(self, suspected: Mask) -> NDArray[np.float64]:
        """Return the field's coefficients without suspected voxels, if enough others are left."""
        unsuspected = ~suspected[self._visible]
        if int(unsuspected.sum()) < _MIN_VOX:
            return self._coefficients
        return self._fit(unsuspected)[0]

    def field_of(self, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the logarithm of a field at the visible voxels of the sample, (N,)."""
        return np.asarray(self._rows @ coefficients)

    def shading(self, robust: NDArray[np.float64], axes: list[NDArray[np.float64]]) -> Shading:
        """Return the correction from the fits with and without suspected voxels (`robust`)."""
        fitted = self.field_of(robust)
        low, median, high = np.percentile(fitted, (2, 50, 98))
        linear = weighted_fit(self._rows[:, :4], fitted, np.ones(len(fitted)))
        linear_field = self._rows[:, :4] @ linear
        linear_low, linear_median, linear_high = np.percentile(linear_field, (2, 50, 98))
        strength = float(np.exp(high - low))
        linear_strength = float(np.exp(linear_high - linear_low))
        field_fraction = correction_fraction(strength)
        linear_fraction = correction_fraction(linear_strength, STRONG_LINEAR)
        if max(field_fraction, linear_fraction) == 0:
            return Shading(strength, linear_strength, 0.0)
        terms = quadratic(*axes)

        def field(coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
            # A quadratic diverges outside the brain.
            centre = float(np.median(self._rows @ coefficients))
            return (np.tensordot(coefficients, terms, 1) - centre).clip(low - median, high - median)

        linear_part = np.tensordot(linear, terms[:4], 1) - linear_median
        linear_part = linear_part.clip(linear_low - linear_median, linear_high - linear_median)
        field_of_all, field_of_robust = field(self._coefficients), field(robust)
        weaker = np.sign(field_of_all) * np.minimum(np.abs(field_of_all), np.abs(field_of_robust))
        same_sign = np.sign(field_of_all) == np.sign(field_of_robust)
        log_divisor = field_fraction * np.where(same_sign, weaker, 0.0)
        log_divisor += max(linear_fraction - field_fraction, 0.0) * linear_part
        return Shading(strength, linear_strength, max(field_fraction, linear_fraction), log_divisor)


Samples = Mapping[MrSequence, _Sample]
Coefficients = Mapping[MrSequence, NDArray[np.float64]]
