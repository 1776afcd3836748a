"""Synthetic skull and scalp, for scans that are not stripped."""

from __future__ import annotations

import torch
from torch import Tensor

from lesionlens.network.synth.fields import DrawnFrame, RandomStreams, blur, noise, spread

_SKULL = ((0.10, 0.35), (0.10, 0.35), (0.05, 0.3), (0.05, 0.3))
_SCALP = ((0.9, 1.7), (0.9, 1.7), (0.5, 1.3), (0.6, 1.4))
"""Intensity of bone, and of fat and skin, on T1, T1c, T2, FLAIR."""


def add_head(
    streams: RandomStreams, frame: DrawnFrame, image: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Add a dark skull and a bright scalp around the brain.

    Parameters
    ----------
    image : (B, 4, I, J, K) Tensor
        Brain only.
    mask : (B, 1, I, J, K) Tensor
        1 inside the brain.

    Returns
    -------
    image : (B, 4, I, J, K) Tensor
    head : (B, 1, I, J, K) Tensor
        1 inside the scalp.
    """
    wavy = 0.03 * noise(streams, frame, streams.uniform(25, 40), low=25)
    near = blur(mask, frame, 9.0) + wavy
    head = torch.maximum(mask, (near > 0.08).float())
    bone = ((near > 0.22) & (mask == 0)).float()
    scalp = head * (1 - mask) * (1 - bone)
    dark = spread(torch.stack([streams.uniform(*r) for r in _SKULL], 1))
    bright = spread(torch.stack([streams.uniform(*r) for r in _SCALP], 1))
    uneven = 1 + 0.25 * noise(streams, frame, streams.uniform(8, 14), low=8)
    image = image * mask + bone * dark + scalp * bright * uneven.clamp_min(0.2)
    return image, head
