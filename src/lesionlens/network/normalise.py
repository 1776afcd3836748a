"""Normalisation of sequences for the network, shared by training and inference.

Inputs and outputs are torch tensors or numpy arrays (`base.array_ops`).
"""

from __future__ import annotations

from lesionlens.base.array_ops import Array, device_of, floats, namespace, quantiles, zeros

Z_LIMIT = 5.0
"""z-scores are clipped at this magnitude."""
_SAMPLE = 20_000  # approximate number of voxels for the quantiles
_TAIL = 0.005


def _location_and_scale(
    volume: Array, inside: Array, *, robust: bool
) -> tuple[Array, Array] | None:
    """Return mean and deviation in (I, J, K); robust ones without the extreme half percents.

    The quantiles are of every n-th voxel along each axis, so that the sample hardly changes if one
    more voxel is in the brain.
    """
    values = volume[inside]
    low, high = values.min(), values.max()
    if robust:
        step = max(1, round((len(values) / _SAMPLE) ** (1 / 3)))
        stride = (slice(None, None, step),) * 3
        sample = volume[stride][inside[stride]]
        low, high = quantiles(sample if len(sample) else values, (_TAIL, 1 - _TAIL))
    span = high - low
    if not float(span) > 1e-6 * max(abs(float(low)), abs(float(high))):
        return None
    scaled = (values.clip(low, high) - low) / span  # squares may exceed float32
    mean = scaled.mean()
    return low + mean * span, ((scaled - mean) ** 2).mean() ** 0.5 * span


def zscore(channels: Array, brain: Array, *, robust: bool = True) -> Array:
    """Normalise each sequence to zero mean and unit deviation inside the brain.

    Apply it to the whole brain, before cropping a window: a window's statistics would depend on its
    tumour content.

    Parameters
    ----------
    channels : (B, C, I, J, K) array
        Any units; absent sequences may have any finite values.
    brain : (B, I, J, K) bool array
    robust : bool
        Whether extreme values are left out of mean and deviation, and clipped.

    Returns
    -------
    (B, C, I, J, K) float32 array
        If robust, clipped at +-`Z_LIMIT`; zero outside the brain and for constant sequences.

    Examples
    --------
    >>> import numpy as np
    >>> ramp = np.arange(1001, dtype=np.float32).reshape(1, 1, 1, 1, -1)
    >>> out = zscore(ramp, np.ones((1, 1, 1, 1001), bool))
    >>> abs(round(float(out[0, 0, 0, 0, 500]), 3)), round(float(out[0, 0, 0, 0, 1000]), 2)
    (0.0, 1.73)
    """
    out = zeros(channels.shape, device_of(channels))
    for item, inside in enumerate(brain):
        if not bool(inside.any()):
            continue
        for sequence, volume in enumerate(floats(channels[item])):
            statistics = _location_and_scale(volume, inside, robust=robust)
            if statistics is None:
                continue
            mean, deviation = statistics
            scaled = (volume - mean) / deviation
            out[item, sequence] = (scaled.clip(-Z_LIMIT, Z_LIMIT) if robust else scaled) * inside
    return out


def with_presence(channels: Array, present: Array, brain: Array) -> Array:
    """Concatenate four sequences and four presence channels.

    Parameters
    ----------
    channels : (B, 4, I, J, K) array
        z-scored, in the order of `MrSequence`.
    present : (B, 4) bool or float array
        Available sequences.
    brain : (B, I, J, K) bool array

    Returns
    -------
    (B, 8, I, J, K) float32 array
        The sequences, zero if absent; then for each the brain mask, zero if absent.
    """
    available = floats(present)[:, :, None, None, None]
    inside = floats(brain[:, None])
    parts = [channels * (available * inside), available * inside]
    return namespace(channels).concatenate(parts, 1)
