"""Normalisation of sequences for the network, shared by training and inference."""

from __future__ import annotations

import torch
from torch import Tensor

Z_LIMIT = 5.0
"""z-scores are clipped at this magnitude."""
_SAMPLE = 20_000  # approximate number of voxels for the quantiles
_TAIL = 0.005


def _location_and_scale(
    volume: Tensor, inside: Tensor, *, robust: bool
) -> tuple[Tensor, Tensor] | None:
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
        tails = torch.tensor((_TAIL, 1 - _TAIL), dtype=values.dtype, device=values.device)
        low, high = torch.quantile(sample if len(sample) else values, tails)
    span = high - low
    if not float(span) > 1e-6 * max(abs(float(low)), abs(float(high))):
        return None
    scaled = (values.clip(low, high) - low) / span  # squares may exceed float32
    mean = scaled.mean()
    return low + mean * span, ((scaled - mean) ** 2).mean() ** 0.5 * span


def zscore(channels: Tensor, brain: Tensor, *, robust: bool = True) -> Tensor:
    """Normalise each sequence to zero mean and unit deviation inside the brain.

    Apply it to the whole brain, before cropping a window: a window's statistics would depend on its
    tumour content.

    Parameters
    ----------
    channels : (B, C, I, J, K) Tensor
        Any units; absent sequences may have any finite values.
    brain : (B, I, J, K) bool Tensor
    robust : bool
        Whether extreme values are left out of mean and deviation, and clipped.

    Returns
    -------
    (B, C, I, J, K) float32 Tensor
        If robust, clipped at +-`Z_LIMIT`; zero outside the brain and for constant sequences.

    Examples
    --------
    >>> ramp = torch.arange(1001.0).reshape(1, 1, 1, 1, -1)
    >>> out = zscore(ramp, torch.ones(1, 1, 1, 1001, dtype=torch.bool))
    >>> abs(round(float(out[0, 0, 0, 0, 500]), 3)), round(float(out[0, 0, 0, 0, 1000]), 2)
    (0.0, 1.73)
    """
    out = torch.zeros(channels.shape, dtype=torch.float32, device=channels.device)
    for item, inside in enumerate(brain):
        if not bool(inside.any()):
            continue
        for sequence, volume in enumerate(channels[item].float()):
            statistics = _location_and_scale(volume, inside, robust=robust)
            if statistics is None:
                continue
            mean, deviation = statistics
            scaled = (volume - mean) / deviation
            out[item, sequence] = (scaled.clip(-Z_LIMIT, Z_LIMIT) if robust else scaled) * inside
    return out


def with_presence(channels: Tensor, present: Tensor, brain: Tensor) -> Tensor:
    """Concatenate four sequences and four presence channels.

    Parameters
    ----------
    channels : (B, 4, I, J, K) Tensor
        z-scored, in the order of `MrSequence`.
    present : (B, 4) bool or float Tensor
        Available sequences.
    brain : (B, I, J, K) bool Tensor

    Returns
    -------
    (B, 8, I, J, K) float32 Tensor
        The sequences, zero if absent; then for each the brain mask, zero if absent.
    """
    available = present.float()[:, :, None, None, None]
    inside = brain[:, None].float()
    parts = [channels * (available * inside), available * inside]
    return torch.cat(parts, 1)
