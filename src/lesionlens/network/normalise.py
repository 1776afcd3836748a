"""From sequences in scanner units to what the network reads; shared by training and inference.

Arrays are torch's or numpy's (`base.array_ops`), and so are the answers.
"""

from __future__ import annotations

from lesionlens.base.array_ops import Array, device_of, floats, namespace, quantiles, zeros

Z_LIMIT = 5.0
"""z-scores are cut at this magnitude."""
_SAMPLE = 20_000  # about so many voxels the quantiles are taken from
_TAIL = 0.005


def _location_and_scale(volume: Array, inside: Array) -> tuple[Array, Array] | None:
    """Mean and deviation in (I, J, K), without the darkest and brightest half percent, if any.

    The quantiles are of every n-th voxel along each axis: one voxel more in the brain then moves
    no other out of the sample.
    """
    values = volume[inside]
    step = max(1, round((len(values) / _SAMPLE) ** (1 / 3)))
    some = (slice(None, None, step),) * 3
    sample = volume[some][inside[some]]
    low, high = quantiles(sample if len(sample) else values, (_TAIL, 1 - _TAIL))
    span = high - low
    if not float(span) > 1e-6 * max(abs(float(low)), abs(float(high))):
        return None
    shares = (values.clip(low, high) - low) / span  # squares of brightness may exceed float32
    mean = shares.mean()
    return low + mean * span, ((shares - mean) ** 2).mean() ** 0.5 * span


def zscore(channels: Array, brain: Array) -> Array:
    """Zero mean and unit deviation inside the brain, each sequence by itself.

    Take it over the whole brain, before a window is cut out: a window's own statistics would
    depend on how much tumour it holds.

    Parameters
    ----------
    channels : (B, C, I, J, K) array
        Any units; absent sequences may hold anything finite.
    brain : (B, I, J, K) bool array

    Returns
    -------
    (B, C, I, J, K) float32 array
        Cut at +-`Z_LIMIT`; zero outside the brain and where a sequence is constant.

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
            found = _location_and_scale(volume, inside)
            if found is None:
                continue
            mean, deviation = found
            scaled = ((volume - mean) / deviation).clip(-Z_LIMIT, Z_LIMIT)
            out[item, sequence] = scaled * inside
    return out


def with_presence(channels: Array, present: Array, brain: Array) -> Array:
    """Four sequences and four presence channels.

    Parameters
    ----------
    channels : (B, 4, I, J, K) array
        z-scored, in the order of `MrSequence`.
    present : (B, 4) bool or float array
        Which sequences there are.
    brain : (B, I, J, K) bool array

    Returns
    -------
    (B, 8, I, J, K) float32 array
        The sequences, zero where absent; then the brain mask where a sequence is present.
    """
    shown = floats(present)[:, :, None, None, None]
    inside = floats(brain[:, None])
    both = [channels * (shown * inside), shown * inside]
    return namespace(channels).concatenate(both, 1)
