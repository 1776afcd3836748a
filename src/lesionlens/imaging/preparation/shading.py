"""Take out a surface coil's strong shading, through which the network was not trained to read.

The bright side of such an image looks like enhancement or oedema. N4 (`bias_field`) leaves most of
it, for its field is drawn towards zero where intensities differ that much.
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
"""Ratio of the field within the brain (98th over 2nd percentile) from which part of it is taken
out, and all of it; between them the part rises with the ratio's logarithm. Measured: 1.1 to 2.6 in
73 sequences of twenty-one people, 3.4 in one that it made a false candidate of."""
LOPSIDED = (1.75, 2.25)
"""The same for the part of the field that rises evenly from one side to the other, of which anatomy
makes little: at most 1.72 in 67 sequences of seventeen people."""
_SAMPLE = 40  # about so many voxels along each axis
_LEAST_VOX = 500
_ROUNDS = 5
_OUTLIER = 2.0  # deviations from which a voxel counts less than half
_SUSPECT = 2.5  # deviations of a voxel that may be of a lesion


@dataclass(frozen=True, slots=True, eq=False)
class Shading:
    """How unevenly an image is lit within the brain."""

    strength: float
    """Ratio of the field's 98th to its 2nd percentile; 1 is none."""
    lopsided: float
    """The same of its even rise from one side to the other."""
    taken_out: float
    """Which part of that is taken out, 0 to 1: of the whole field or of its even rise."""
    field: NDArray[np.float64] | None = None
    """(I, J, K) logarithm of what is divided out; None if nothing is."""

    @property
    def ratio(self) -> float:
        """What is said of it: of the whole field where that is strong, else of its even rise."""
        return self.strength if self.strength >= STRONG[0] else self.lopsided


def shading_of(images: Mapping[MrSequence, Floats], brain: Mask) -> dict[MrSequence, Shading]:
    """Measure the shading of each sequence, blind to what may be a lesion in any of them.

    Parameters
    ----------
    images : mapping of MrSequence to (I, J, K) float32
        On one grid; what is not positive counts as unseen.
    brain : (I, J, K) bool
        Where the shading is looked for.

    Returns
    -------
    dict
        Without a sequence that shows too little of the brain.

    Notes
    -----
    The field's logarithm is a quadratic in the three axes, fitted to that of the intensities by
    least squares, reweighed so that lesions, vessels and fluid count little. It is fitted twice:
    to all of the brain, and without the places that stand out in any sequence as a lesion does.
    Where the two disagree, the weaker field counts, and none where they are of opposite sign.
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


def divided_by(values: Floats, found: Shading) -> Floats:
    """Return an image without the shading that is taken out of it."""
    if found.field is None:
        return values
    return np.asarray(values * np.exp(-found.field), dtype=np.float32)


def share_taken_out(strength: float, bounds: tuple[float, float] = STRONG) -> float:
    """Return which part of a field's logarithm is taken out, 0 to 1.

    Examples
    --------
    >>> [round(share_taken_out(strength), 2) for strength in (2.5, 3.0, 4.0)]
    [0.0, 0.53, 1.0]
    """
    low, high = np.log(bounds)
    return float(np.clip((np.log(strength) - low) / (high - low), 0.0, 1.0))


class _Sample:
    """Some voxels of an image, and the fields fitted to them."""

    def __init__(self, values: Floats, brain: Mask, terms: Floats) -> None:
        self._seen = brain & (values > 0)
        self._terms = terms
        self.enough = int(self._seen.sum()) >= _LEAST_VOX
        if self.enough:
            self._rows = terms[:, self._seen].T
            self._logs = np.log(values[self._seen].astype(np.float64))
            self._factors, self._off = self._fitted(np.ones(len(self._logs), bool))

    def _fitted(self, use: Mask) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the field's factors, and how many deviations each voxel stands off."""
        weights, factors, off = use.astype(np.float64), np.zeros(self._rows.shape[1]), self._logs
        for _ in range(_ROUNDS):
            factors = weighted_fit(self._rows, self._logs, weights)
            apart = self._logs - self._rows @ factors
            off = apart / (1.48 * float(np.median(np.abs(apart[use]))) + 1e-6)
            weights = use / (1 + (off / _OUTLIER) ** 2)
        return factors, off

    def suspected(self) -> Mask:
        """Return where more than a few voxels together stand off the field, as a lesion does."""
        off = np.zeros(self._seen.shape, bool)
        off[self._seen] = np.abs(self._off) > _SUSPECT
        return np.asarray(ndimage.binary_dilation(ndimage.binary_opening(off)))

    def shading(self, suspected: Mask, axes: list[NDArray[np.float64]]) -> Shading:
        """Return what is taken out, by the fits with and without what is suspected."""
        use = ~suspected[self._seen]
        blind = self._fitted(use)[0] if int(use.sum()) >= _LEAST_VOX else self._factors
        fitted = self._rows @ blind
        low, middle, high = np.percentile(fitted, (2, 50, 98))
        rise = weighted_fit(self._rows[:, :4], fitted, np.ones(len(fitted)))
        rising = self._rows[:, :4] @ rise
        lowest, between, highest = np.percentile(rising, (2, 50, 98))
        strength, lopsided = float(np.exp(high - low)), float(np.exp(highest - lowest))
        whole, part = share_taken_out(strength), share_taken_out(lopsided, LOPSIDED)
        if max(whole, part) == 0:
            return Shading(strength, lopsided, 0.0)
        terms = quadratic(*axes)

        def field(factors: NDArray[np.float64]) -> NDArray[np.float64]:
            # beyond the brain a quadratic runs away
            about = float(np.median(self._rows @ factors))
            return (np.tensordot(factors, terms, 1) - about).clip(low - middle, high - middle)

        even = np.tensordot(rise, terms[:4], 1) - between
        even = even.clip(lowest - between, highest - between)
        taken = whole * _agreed(field(self._factors), field(blind))
        taken += max(part - whole, 0.0) * even
        return Shading(strength, lopsided, max(whole, part), taken)


def _agreed(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weaker of two fields; zero where their signs differ."""
    same = np.sign(one) == np.sign(other)
    return np.where(same, np.sign(one) * np.minimum(np.abs(one), np.abs(other)), 0.0)
