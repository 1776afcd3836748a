"""What training minimises: overlap and cross-entropy at three scales, and honest attention."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from lesionlens.network.model import LensOutput
from lesionlens.training.config import LossConfig
from lesionlens.training.data import Batch
from lesionlens.training.set_loss import pool_like, set_loss

_SPATIAL = (2, 3, 4)
_SMOOTH = 20.0
"""Voxels added to both sides of the Dice ratio, so that an empty region is learnt gently."""


def mask_loss(logits: Tensor, target: Tensor, smooth: float, config: LossConfig) -> Tensor:
    """Soft Dice loss (Milletari et al. 2016, squared terms left out) and cross-entropy; (B, R).

    Parameters
    ----------
    logits, target : (B, R, I, J, K) float Tensor
        `target` is 0-1 and may be fractional.
    """
    probability = logits.sigmoid()
    overlap = (probability * target).sum(_SPATIAL)
    size = probability.sum(_SPATIAL) + target.sum(_SPATIAL)
    dice = 1 - (2 * overlap + smooth) / (size + smooth)
    voxel = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return config.overlap * dice + config.voxel * voxel.mean(_SPATIAL)


def attention_loss(attention: Tensor, target: Tensor) -> Tensor:
    """-log of the attention inside the region, mean over the regions that are there."""
    inside = (attention * target).sum(_SPATIAL)
    there = (target.sum(_SPATIAL) > 0).float()
    return -(torch.log(inside.clamp_min(1e-4)) * there).sum() / there.sum().clamp_min(1)


def lens_loss(
    output: LensOutput, batch: Batch, config: LossConfig
) -> tuple[Tensor, dict[str, float]]:
    """Add up the whole loss, and hand over its parts; `batch` is what `output` answers."""
    target = batch.labels.float()
    weight = torch.tensor(config.regions, device=target.device)
    weight = weight / weight.mean()
    masks = target.new_zeros(())
    for scale, (share, logits) in enumerate(
        zip(config.scales, (output.logits, *output.deep), strict=True)
    ):
        factor = 2**scale
        goal = target if scale == 0 else pool_like(target, logits, factor)
        part = mask_loss(logits.float(), goal, _SMOOTH / factor**3, config)
        masks = masks + share / sum(config.scales) * (part * weight).mean()
    pointing = attention_loss(output.attention, target)
    there = (target.sum(_SPATIAL) > 0).float()
    exists = functional.binary_cross_entropy_with_logits(output.exists, there)
    total = masks + config.attention * pointing + config.exists * exists
    parts = {"masks": masks, "attention": pointing, "exists": exists}
    if output.lesions is not None:
        parts["lesions"] = set_loss(output.lesions, batch.parts, batch.present)
        total = total + config.lesions * parts["lesions"]
    return total, {name: float(value.detach()) for name, value in parts.items()}
