"""Training losses: Dice and cross-entropy, globally and per lesion; attention."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from lesionlens.network.lens_net import LensOutput
from lesionlens.network.synth.instances import CAVITY
from lesionlens.network.synth.tumour import MAX_LESIONS
from lesionlens.training.config import LossConfig
from lesionlens.training.data import Batch
from lesionlens.training.set_loss import pool_like, set_loss

_SPATIAL = (2, 3, 4)
_SMOOTH = 20.0
"""Added to numerator and denominator of the Dice ratio in voxels, for small gradients of empty
regions.
"""
_SMOOTH_NEAR = 4.0  # the same around one lesion; the smallest has twelve voxels
_NEAR_VOX = 4  # margin of a lesion's box
_MIN_VOX = 4  # smaller lesions only count in the global loss
_CAVITY_WEIGHT = 1.0  # of the resection cavity, beside the weights of the regions


def targets(batch: Batch, regions: int) -> Tensor:
    """Return the target masks of a network with this number of region queries, (B, R, I, J, K)."""
    nested = batch.labels.float()
    if regions == nested.shape[1]:
        return nested
    return torch.cat([nested, (batch.instances == CAVITY)[:, None].float()], 1)


def mask_loss(logits: Tensor, target: Tensor, smooth: float, config: LossConfig) -> Tensor:
    """Return soft Dice loss (Milletari et al. 2016, without squares) plus cross-entropy; (B, R).

    Parameters
    ----------
    logits, target : (B, R, I, J, K) float Tensor
        `target` is 0-1 and may be fractional.
    smooth : float
        Added to numerator and denominator of the Dice ratio, voxels.
    """
    probability = logits.sigmoid()
    overlap = (probability * target).sum(_SPATIAL)
    size = probability.sum(_SPATIAL) + target.sum(_SPATIAL)
    dice = 1 - (2 * overlap + smooth) / (size + smooth)
    voxel = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return config.overlap * dice + config.voxel * voxel.mean(_SPATIAL)


def each_lesion_loss(logits: Tensor, batch: Batch, config: LossConfig) -> Tensor:
    """Return the mean mask loss over boxes around each lesion, (R,); zero without lesions.

    In a global loss a metastasis of 1 ml has a hundredth of a glioma's weight. Like the blob loss
    (Kofler et al. 2023), except for the domain: theirs is the whole volume without the other
    lesions, where errors elsewhere dominate a small lesion.

    Parameters
    ----------
    logits : (B, R, I, J, K) float Tensor
        Log-odds.
    """
    losses: list[Tensor] = []
    target = targets(batch, logits.shape[1])
    for item, parts in enumerate(batch.instances):
        for number in parts.unique().tolist():
            if not 0 < number <= MAX_LESIONS:
                continue
            voxels = (parts == number).nonzero()
            if len(voxels) < _MIN_VOX:
                continue
            low = (voxels.amin(0) - _NEAR_VOX).clamp_min(0).tolist()
            stop = (voxels.amax(0) + _NEAR_VOX + 1).tolist()
            box = (slice(a, b) for a, b in zip(low, stop, strict=True))
            region = (slice(item, item + 1), slice(None), *box)
            loss = mask_loss(logits[region].float(), target[region], _SMOOTH_NEAR, config)
            losses.append(loss[0])
    return torch.stack(losses).mean(0) if losses else logits.new_zeros(logits.shape[1])


def attention_loss(attention: Tensor, target: Tensor) -> Tensor:
    """Return -log of the attention inside the region, averaged over present regions."""
    inside = (attention * target).sum(_SPATIAL)
    is_present = (target.sum(_SPATIAL) > 0).float()
    return -(torch.log(inside.clamp_min(1e-4)) * is_present).sum() / is_present.sum().clamp_min(1)


def lens_loss(
    output: LensOutput, batch: Batch, config: LossConfig
) -> tuple[Tensor, dict[str, float]]:
    """Return the total loss and its terms for the output of a batch."""
    target = targets(batch, output.logits.shape[1])
    extra_weights = [_CAVITY_WEIGHT] * (target.shape[1] - len(config.regions))
    weight = torch.tensor([*config.regions, *extra_weights], device=target.device)
    weight = weight / weight.mean()
    masks = target.new_zeros(())
    for scale, (scale_weight, logits) in enumerate(
        zip(config.scales, (output.logits, *output.deep), strict=True)
    ):
        factor = 2**scale
        scaled_target = target if scale == 0 else pool_like(target, logits, factor)
        part = mask_loss(logits.float(), scaled_target, _SMOOTH / factor**3, config)
        masks = masks + scale_weight / sum(config.scales) * (part * weight).mean()
    attention = attention_loss(cast("Tensor", output.attention), target)
    total = masks + config.attention * attention
    terms = {"masks": masks, "attention": attention}
    if config.each_lesion:
        terms["each lesion"] = (each_lesion_loss(output.logits, batch, config) * weight).mean()
        total = total + config.each_lesion * terms["each lesion"]
    if output.lesions is not None:
        terms["lesions"] = set_loss(output.lesions, batch.instances, batch.present)
        total = total + config.lesions * terms["lesions"]
    return total, {name: float(value.detach()) for name, value in terms.items()}
