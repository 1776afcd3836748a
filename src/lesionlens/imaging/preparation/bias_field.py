"""Correct a strong bias field, as from a surface coil: outside of the network's training.

The bright side of such an image looks like enhancement or oedema. N4 leaves most of it, because its
field is regularised towards zero for such large differences.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.geometry import Floats, Mask
from lesionlens.base.labels import MrSequence
from lesionlens.base.numerics import quadratic, weighted_fit
from lesionlens.base.records.study import Images

STRONG, STRONG_LINEAR = (2.6, 3.4), (1.75, 2.25)
"""Ratios of the field within the brain (98th over 2nd percentile), and of its linear part, at which
correction begins and is complete; between them it rises with the logarithm. Measured: 1.1 to 2.6,
and at most 1.72, in 73 sequences of twenty-one people; 3.4 in one with a false candidate."""
_SAMPLE, _MIN_VOXELS, _ITERATIONS = 40, 500, 5
_OUTLIER, _SUSPECT = 2.0, 2.5
"""Deviations at which a voxel's weight is one half, and from which it may belong to a lesion."""


class BiasField(NamedTuple):
    """A field to be divided out."""

    ratio: float
    """98th over 2nd percentile within the brain: of the field, else of its linear part."""
    fraction: float
    """Corrected part of its logarithm, 0 to 1."""
    log: NDArray[np.float64]
    """(I, J, K): logarithm of the divisor."""

    def removed_from(self, values: Floats) -> Floats:
        """Return an image divided by this field."""
        return np.asarray(values * np.exp(-self.log), dtype=np.float32)


def strong_fields(images: Images, brain: Mask) -> Mapping[MrSequence, BiasField]:
    """Return the fields that are strong enough to be corrected.

    Parameters
    ----------
    images : mapping of MrSequence to (I, J, K) float32
        On one grid; voxels <= 0 are ignored.
    brain : (I, J, K) bool

    Notes
    -----
    The field's logarithm is a quadratic in the three axes, fitted to that of the intensities by
    iteratively reweighted least squares: lesions, vessels and fluid have little weight. The fit is
    repeated without clusters that stand out in any sequence.
    """
    steps = tuple(slice(None, None, max(length // _SAMPLE, 1)) for length in brain.shape)
    axes = [np.linspace(-1, 1, length) for length in brain.shape]
    terms = quadratic(*(axis[step] for axis, step in zip(axes, steps, strict=True)))
    logs, suspected = {}, np.zeros(terms.shape[1:], bool)
    for sequence, image in images.items():
        sample = image[steps]
        visible = brain[steps] & (sample > 0)
        if int(visible.sum()) < _MIN_VOXELS:
            continue
        logs[sequence] = visible, np.log(sample, where=visible, out=np.zeros(visible.shape))
        _, residuals = _fit(terms[:, visible].T, logs[sequence][1][visible])
        deviating = np.zeros(visible.shape, bool)
        deviating[visible] = np.abs(residuals) > _SUSPECT
        suspected |= ndimage.binary_dilation(ndimage.binary_opening(deviating))
    found = {}
    for sequence, (visible, log) in logs.items():
        used = visible & ~suspected
        used = used if int(used.sum()) >= _MIN_VOXELS else visible
        coefficients, _ = _fit(terms[:, used].T, log[used])
        field = _strong(coefficients, terms[:, visible].T, axes)
        if field is not None:
            found[sequence] = field
    return found


def _fit(
    rows: NDArray[np.floating], logs: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the robust coefficients, and each voxel's residual in deviations."""
    weights, coefficients, residuals = np.ones(len(logs)), np.zeros(rows.shape[1]), logs
    for _ in range(_ITERATIONS):
        coefficients = weighted_fit(rows, logs, weights)
        differences = logs - rows @ coefficients
        residuals = differences / (1.48 * float(np.median(np.abs(differences))) + 1e-6)
        weights = 1 / (1 + (residuals / _OUTLIER) ** 2)
    return coefficients, residuals


def _strong(
    coefficients: NDArray[np.float64],
    rows: NDArray[np.floating],
    axes: list[NDArray[np.float64]],
) -> BiasField | None:
    """Return what to correct: the whole field if it is strong, else its linear part."""
    fitted = rows @ coefficients
    linear = np.zeros(len(coefficients))
    linear[:4] = weighted_fit(rows[:, :4], fitted, np.ones(len(fitted)))
    for part, bounds in ((coefficients, STRONG), (linear, STRONG_LINEAR)):
        low, median, high = np.percentile(rows @ part, (2, 50, 98))
        start, complete = np.log(bounds)
        fraction = float(np.clip((high - low - start) / (complete - start), 0.0, 1.0))
        if fraction > 0:  # a quadratic diverges outside the brain: clipped
            field = np.tensordot(part, quadratic(*axes), 1).clip(low, high) - median
            return BiasField(float(np.exp(high - low)), fraction, fraction * field)
    return None
