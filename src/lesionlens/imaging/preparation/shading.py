"""Correct strong surface-coil shading, which is outside the network's training distribution.

The bright side of such an image looks like enhancement or oedema. N4 (`bias_field`) leaves most of
it, because its field is regularised towards zero for such large differences.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.labels import MrSequence
from lesionlens.base.polynomials import quadratic, weighted_fit

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
STRONG = (2.6, 3.4)
"""Ratio of the field within the brain (98th over 2nd percentile) at which correction begins and at
which it is complete; between them the corrected part rises with the logarithm of the ratio.
Measured: 1.1 to 2.6 in 73 sequences of twenty-one people, 3.4 in one with a false candidate.
"""
LOPSIDED = (1.75, 2.25)
"""The same for the linear part of the field, to which anatomy contributes little: at most 1.72 in
67 sequences of seventeen people.
"""
_SAMPLE = 40  # sampled voxels along each axis, approximately
_MIN_VOX = 500
_ROUNDS = 5
_OUTLIER = 2.0  # deviations at which a voxel's weight is one half
_SUSPECT = 2.5  # deviations of a voxel that may belong to a lesion


@dataclass(frozen=True, slots=True, eq=False)
class Shading:
    """The shading of an image within the brain."""

    strength: float
    """Ratio of the field's 98th to its 2nd percentile; 1 means none."""
    lopsided: float
    """The same ratio for the linear part of the field."""
    taken_out: float
    """Which part of it is corrected, 0 to 1: of the whole field or of its linear part."""
    field: NDArray[np.float64] | None = None
    """(I, J, K): logarithm of the divisor; None if nothing is corrected."""

    @property
    def ratio(self) -> float:
        """The reported ratio: of the whole field if that is strong, else of its linear part."""
        return self.strength if self.strength >= STRONG[0] else self.lopsided


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
    two fits disagree, the weaker field is used, or none if the signs differ.
    """
    steps = tuple(slice(None, None, max(length // _SAMPLE, 1)) for length in brain.shape)
    axes = [np.linspace(-1, 1, length) for length in brain.shape]
    terms = quadratic(*(axis[step] for axis, step in zip(axes, steps, strict=True)))
    samples = {s: _Sample(image[steps], brain[steps], terms) for s, image in images.items()}
    samples = {s: one for s, one in samples.items() if one.enough}
    if not samples:
        return {}
    suspected = np.any([one.suspected() for one in samples.values()], axis=0)
    return {s: one.shading(suspected, axes) for s, one in samples.items()}


def corrected_for(values: Floats, found: Shading) -> Floats:
    """Return an image divided by its estimated shading."""
    if found.field is None:
        return values
    return np.asarray(values * np.exp(-found.field), dtype=np.float32)


def corrected_share(strength: float, bounds: tuple[float, float] = STRONG) -> float:
    """Return which part of a field's logarithm is corrected, 0 to 1.

    Examples
    --------
    >>> [round(corrected_share(strength), 2) for strength in (2.5, 3.0, 4.0)]
    [0.0, 0.53, 1.0]
    """
    low, high = np.log(bounds)
    return float(np.clip((np.log(strength) - low) / (high - low), 0.0, 1.0))


class _Sample:
    """A sample of voxels, and the fields fitted to them."""

    def __init__(self, values: Floats, brain: Mask, terms: Floats) -> None:
        self._seen = brain & (values > 0)
        self.enough = int(self._seen.sum()) >= _MIN_VOX
        if self.enough:
            self._rows = terms[:, self._seen].T
            self._logs = np.log(values[self._seen].astype(np.float64))
            self._factors, self._off = self._fitted(np.ones(len(self._logs), bool))

    def _fitted(self, use: Mask) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the field's coefficients, and each voxel's residual in deviations."""
        weights, factors, off = use.astype(np.float64), np.zeros(self._rows.shape[1]), self._logs
        for _ in range(_ROUNDS):
            factors = weighted_fit(self._rows, self._logs, weights)
            apart = self._logs - self._rows @ factors
            off = apart / (1.48 * float(np.median(np.abs(apart[use]))) + 1e-6)
            weights = use / (1 + (off / _OUTLIER) ** 2)
        return factors, off

    def suspected(self) -> Mask:
        """Return the mask of clusters that deviate from the field as a lesion does."""
        off = np.zeros(self._seen.shape, bool)
        off[self._seen] = np.abs(self._off) > _SUSPECT
        return np.asarray(ndimage.binary_dilation(ndimage.binary_opening(off)))

    def shading(self, suspected: Mask, axes: list[NDArray[np.float64]]) -> Shading:
        """Return the correction from the fits with and without suspected voxels."""
        use = ~suspected[self._seen]
        blind = self._fitted(use)[0] if int(use.sum()) >= _MIN_VOX else self._factors
        fitted = self._rows @ blind
        low, middle, high = np.percentile(fitted, (2, 50, 98))
        rise = weighted_fit(self._rows[:, :4], fitted, np.ones(len(fitted)))
        rising = self._rows[:, :4] @ rise
        lowest, between, highest = np.percentile(rising, (2, 50, 98))
        strength, lopsided = float(np.exp(high - low)), float(np.exp(highest - lowest))
        whole, part = corrected_share(strength), corrected_share(lopsided, LOPSIDED)
        if max(whole, part) == 0:
            return Shading(strength, lopsided, 0.0)
        terms = quadratic(*axes)

        def field(factors: NDArray[np.float64]) -> NDArray[np.float64]:
            # A quadratic diverges outside the brain.
            about = float(np.median(self._rows @ factors))
            return (np.tensordot(factors, terms, 1) - about).clip(low - middle, high - middle)

        even = np.tensordot(rise, terms[:4], 1) - between
        even = even.clip(lowest - between, highest - between)
        one, other = field(self._factors), field(blind)
        weaker = np.sign(one) * np.minimum(np.abs(one), np.abs(other))
        taken = whole * np.where(np.sign(one) == np.sign(other), weaker, 0.0)
        taken += max(part - whole, 0.0) * even
        return Shading(strength, lopsided, max(whole, part), taken)
