"""Take out a surface coil's strong shading, through which the network was not trained to read.

The bright side of such an image looks like enhancement or oedema. N4 (`bias_field`) leaves most of
it, for its field is drawn towards zero where intensities differ that much.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.polynomials import quadratic, weighted_fit

Floats = NDArray[np.float32]
STRONG = (2.6, 3.4)
"""Ratio of the field within the brain (98th over 2nd percentile) from which part of it is taken
out, and all of it; between them the part rises with the ratio's logarithm. Measured: 1.1 to 2.6 in
73 sequences of twenty-one people, 3.4 in one that it made a false candidate of."""
_SAMPLE = 40  # about so many voxels along each axis
_LEAST_VOX = 500
_ROUNDS = 5
_OUTLIER = 2.0  # deviations from which a voxel counts less than half


def evened(values: Floats, brain: NDArray[np.bool_]) -> tuple[Floats, float]:
    """Divide strong shading out of an image.

    Parameters
    ----------
    values : (I, J, K) float32 array
        One sequence; what is not positive counts as unseen.
    brain : (I, J, K) bool array
        Where the shading is looked for.

    Returns
    -------
    (I, J, K) float32 array, float
        As given where the shading is weaker than `STRONG`; and how strong it is.

    Notes
    -----
    The field's logarithm is a quadratic in the three axes, fitted to that of the intensities by
    least squares, reweighed so that lesions, vessels and fluid count little.
    """
    steps = tuple(slice(None, None, max(length // _SAMPLE, 1)) for length in values.shape)
    seen = brain[steps] & (values[steps] > 0)
    if int(seen.sum()) < _LEAST_VOX:
        return values, 1.0
    axes = [np.linspace(-1, 1, length) for length in values.shape]
    some = quadratic(*(axis[step] for axis, step in zip(axes, steps, strict=True)))[:, seen].T
    found = np.log(values[steps][seen].astype(np.float64))
    weights = np.ones(len(found))
    factors = np.zeros(some.shape[1])
    for _ in range(_ROUNDS):
        factors = weighted_fit(some, found, weights)
        apart = found - some @ factors
        spread = 1.48 * float(np.median(np.abs(apart))) + 1e-6
        weights = 1 / (1 + (apart / (_OUTLIER * spread)) ** 2)
    low, middle, high = np.percentile(some @ factors, (2, 50, 98))
    strength = float(np.exp(high - low))
    part = share_taken_out(strength)
    if part == 0:
        return values, strength
    field = np.tensordot(factors, quadratic(*axes), 1) - middle
    # beyond the brain a quadratic runs away
    field = np.exp(-part * field.clip(low - middle, high - middle))
    return np.asarray(values * field, dtype=np.float32), strength


def share_taken_out(strength: float) -> float:
    """Return which part of a field's logarithm is taken out, 0 to 1.

    Examples
    --------
    >>> [round(share_taken_out(strength), 2) for strength in (2.5, 3.0, 4.0)]
    [0.0, 0.53, 1.0]
    """
    low, high = np.log(STRONG)
    return float(np.clip((np.log(strength) - low) / (high - low), 0.0, 1.0))
