"""From sequences in scanner units to what the network reads; shared by training and inference."""

from __future__ import annotations

import torch
from torch import Tensor

Z_LIMIT = 5.0
"""z-scores are cut at this magnitude."""
_SAMPLE = 20_000
"""Voxels that the quantiles are taken from."""
_TAIL = 0.005


def _location_and_scale(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation without the darkest and brightest half percent of (N,) values."""
    sample = values[:: max(1, values.numel() // _SAMPLE)]
    bounds = torch.quantile(sample, torch.tensor([_TAIL, 1 - _TAIL], device=values.device))
    clipped = values.clamp(bounds[0], bounds[1])
    return clipped.mean(), clipped.std(correction=0)


def zscore(channels: Tensor, brain: Tensor) -> Tensor:
    """Zero mean and unit deviation inside the brain, each sequence by itself.

    Take it over the whole brain, before a window is cut out: a window's own statistics would
    depend on how much tumour it holds.

    Parameters
    ----------
    channels : (B, C, I, J, K) Tensor
        Any units; absent sequences may hold anything finite.
    brain : (B, I, J, K) bool Tensor

    Returns
    -------
    (B, C, I, J, K) float32 Tensor
        Cut at +-`Z_LIMIT`; zero outside the brain and where a sequence is constant.

    Examples
    --------
    >>> ramp = torch.arange(1001.0).view(1, 1, 1, 1, -1)
    >>> out = zscore(ramp, torch.ones(1, 1, 1, 1001, dtype=torch.bool))
    >>> round(float(out[0, 0, 0, 0, 500]), 3), round(float(out[0, 0, 0, 0, 1000]), 2)
    (0.0, 1.73)
    """
    out = torch.zeros(channels.shape, dtype=torch.float32, device=channels.device)
    for item, inside in enumerate(brain):
        if not bool(inside.any()):
            continue
        for sequence, volume in enumerate(channels[item].float()):
            mean, deviation = _location_and_scale(volume[inside])
            if float(deviation) <= 1e-6 * max(1.0, abs(float(mean))):
                continue
            scaled = ((volume - mean) / deviation).clamp(-Z_LIMIT, Z_LIMIT)
            out[item, sequence] = scaled * inside
    return out


def with_presence(channels: Tensor, present: Tensor, brain: Tensor) -> Tensor:
    """Four sequences and four presence channels.

    Parameters
    ----------
    channels : (B, 4, I, J, K) Tensor
        z-scored, in the order of `MrSequence`.
    present : (B, 4) bool or float Tensor
        Which sequences there are.
    brain : (B, I, J, K) bool Tensor

    Returns
    -------
    (B, 8, I, J, K) Tensor
        The sequences, zero where absent; then the brain mask where a sequence is present.
    """
    shown = present.to(channels.dtype)[:, :, None, None, None]
    inside = brain[:, None].to(channels.dtype)
    return torch.cat([channels * (shown * inside), shown * inside], 1)
