"""Normalise intensity units independently of how a file stores them.

MR intensity is defined up to a positive factor and an offset. The background is set to zero, and
so is padding: a constant far below all signal, as scanners write outside of what they reconstruct.
Extreme scales are corrected by a power of two, which is exact.
"""

from __future__ import annotations

import numpy as np

from lesionlens.base.geometry import Floats, Mask
from lesionlens.base.scan_limits import corner_value
from lesionlens.imaging.preparation.brain import is_noise

USUAL = (-6, 20)
"""Range, as powers of two, in which the bright end of a scan is left unchanged."""
_TARGET = 10
_MIN_CONSTANT_FRACTION = 0.02
_MAX_DARKER_FRACTION = 0.01
_MIN_PADDING_GAP = 0.75
"""Distance of padding below all other voxels, as a share of their range; at most .34 between the
background and the voxels of 67 stripped scans.
"""


_MIN_BLANK_FRACTION = 0.25
"""Share of a scan that a blank background takes up."""
_ROUNDING = 1e-4
_RINGING = (0.02, 0.12)
"""Depth of ringing below the background. These are shares of the bright end; .05 to .10 after cubic
and quintic splines, .14 and more in scans whose own voxels are darker than the background.
"""


def standard_units(values: Floats) -> Floats:
    """Return a scan with its background at zero and its bright end within `USUAL`.

    Parameters
    ----------
    values : (I, J, K) float32
        Finite, in any unit, not constant.

    Returns
    -------
    (I, J, K) float32
        The same array if no change is needed.
    """
    values = _without_ringing(_without_padding(values))
    background, outside = _background(values)
    shifted = values if background == 0 else values - background
    if outside is not None:
        shifted = np.where(outside, np.float32(0), shifted)
    low, top = (float(v) for v in np.quantile(shifted[::2, ::2, ::2], (0.001, 0.999)))
    size = max(abs(low), abs(top)) or float(np.abs(shifted).max())
    power = int(np.frexp(size)[1])
    if USUAL[0] <= power <= USUAL[1]:
        return shifted
    return np.asarray(np.ldexp(shifted, _TARGET - power), dtype=np.float32)


def _background(values: Floats) -> tuple[np.float32, Mask | None]:
    """Return the background intensity, and its mask if much of the object is darker.

    It is the constant value around the object if there is one, else the minimum, except for single
    outliers far below it.
    """
    sample = values[::2, ::2, ::2]
    constant = corner_value(values)
    darkest, low, top = values.min(), *np.quantile(sample, (0.001, 0.999)).astype(np.float32)
    lowest = np.float32(low if low - darkest > top - low else darkest)
    if float((sample == constant).mean()) < _MIN_CONSTANT_FRACTION:
        return lowest, None
    darker_fraction = float((sample < constant).sum()) / max(int((sample != constant).sum()), 1)
    if darker_fraction < _MAX_DARKER_FRACTION:
        return constant, None
    return lowest, values == constant  # as after z-scoring


def _without_ringing(values: Floats) -> Floats:
    """Remove the ringing that spline resampling leaves on a blank background.

    It consists of tiny values everywhere, and of values darker than the background next to the
    object's edge. In other scans darker voxels belong to the object, as after z-scoring.
    """
    constant, sample = corner_value(values), values[::2, ::2, ::2]
    low, top = np.quantile(sample, (0.001, 0.999)).astype(np.float32)
    tolerance = np.float32(_ROUNDING) * (top - constant)
    is_exact, is_blank = (
        float((np.abs(sample - constant) <= limit).mean()) >= _MIN_BLANK_FRACTION
        for limit in (0, tolerance)
    )
    shallowest, deepest = (share * (top - constant) for share in _RINGING)
    is_ringing = shallowest <= constant - low <= deepest
    if not is_blank or not (is_ringing or (not is_exact and constant - low <= tolerance)):
        return values
    return np.where(values <= constant + tolerance, constant, values)


def _without_padding(values: Floats) -> Floats:
    """Raise the padding of a scan to zero, or to its darkest other voxels.

    The darkest other voxels are used if they are below zero, or far above it, as after an offset
    within the head alone. An object without texture is unchanged: it would get a brain's contrast.
    """
    darkest = values.min()
    sample = values[::2, ::2, ::2]
    brighter = sample[sample > darkest]
    if not brighter.size:
        return values
    low, top = np.quantile(brighter, (0.001, 0.999)).astype(np.float32)
    gap = _MIN_PADDING_GAP * (top - low)
    if low - darkest <= gap:
        return values
    raise_to_zero = 0 <= low <= gap or (low > gap and is_noise(values, values > darkest))
    return np.maximum(values, np.float32(0) if raise_to_zero else low)
