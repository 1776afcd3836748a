"""Training losses: masks of the regions, where they attend, and the lesion queries' set prediction.

`lens_loss` is the total. Numbers in `instances` tell what a voxel belongs to: a lesion, one of the
two kinds of distractor (synthetic volumes only), or the resection cavity.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

from lesionlens.base.labels import LesionClass, MrSequence
from lesionlens.network.lens_net import LensOutput, LesionOutput

MAX_LESIONS = 8
WHITE_SPOTS, ENHANCEMENT, CAVITY = MAX_LESIONS + 1, MAX_LESIONS + 2, MAX_LESIONS + 3
"""Instance numbers: 1 to `MAX_LESIONS` are lesions; then all white-matter spots together, all
enhancing vessels, plexus and dura, and the cavity."""
_SPATIAL = (-3, -2, -1)
_REGIONS = (1.0, 1.0, 1.2, 1.0)  # weights of WT, TC, ET and cavity
_SCALES = (1.0, 0.4, 0.2)  # of masks at 1/1, 1/2 and 1/4
_VOXEL, _ATTENTION = 3.0, 0.03  # of cross-entropy beside Dice, and of the attention
LESION_WEIGHT = 0.1
"""Of the lesion queries' loss in the total."""
_SMOOTH = 20.0  # voxels added to both sides of the Dice ratio: small gradients of empty regions
_NONE = len(LesionClass)
_NONE_WEIGHT = 0.15  # class weight of queries without a lesion, which are most
_MIN_VOX = 4.0  # smaller instances are ignored
_CLASS, _MASK, _DICE, _BOX = 2.0, 5.0, 5.0, 2.0  # in the matching and in the loss


class Batch(NamedTuple):
    """One training batch."""

    channels: Tensor
    """(B, 4, I, J, K) float32 z-scores; zero for an absent sequence and outside the brain."""
    present: Tensor
    """(B, 4) bool."""
    brain: Tensor
    """(B, I, J, K) bool."""
    labels: Tensor
    """(B, 3, I, J, K) uint8, nested WT, TC, ET."""
    instances: Tensor
    """(B, I, J, K) uint8: 0 background, else the numbers above."""
    bounds: Tensor
    """(B, 3, 2) float32, as for `LensNetwork.forward`."""


def lens_loss(output: LensOutput, batch: Batch) -> Tensor:
    """Return the total loss of an output with attention maps."""
    target = batch.labels.float()
    if output.logits.shape[1] > target.shape[1]:
        target = torch.cat([target, (batch.instances == CAVITY)[:, None].float()], 1)
    weight = target.new_tensor(_REGIONS[: target.shape[1]])
    weight = weight / weight.mean()
    masks = target.new_zeros(())
    for scale, logits in enumerate((output.logits, *output.deep)):
        pooled = target if scale == 0 else _pool_like(target, logits, 2**scale)
        loss = _mask_loss(logits.float(), pooled, _SMOOTH / 8**scale)
        masks = masks + _SCALES[scale] / sum(_SCALES) * (loss * weight).mean()
    total: Tensor = masks + _ATTENTION * _attention_loss(cast("Tensor", output.attention), target)
    if output.lesions is not None:
        total = total + LESION_WEIGHT * set_loss(output.lesions, batch.instances, batch.present)
    return total


def _mask_loss(logits: Tensor, target: Tensor, smooth: float) -> Tensor:
    """Return soft Dice loss (Milletari et al. 2016, without squares) plus cross-entropy, (B, R)."""
    probability = logits.sigmoid()
    overlap = (probability * target).sum(_SPATIAL)
    size = probability.sum(_SPATIAL) + target.sum(_SPATIAL)
    dice = 1 - (2 * overlap + smooth) / (size + smooth)
    voxel = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return dice + _VOXEL * voxel.mean(_SPATIAL)


def _attention_loss(attention: Tensor, target: Tensor) -> Tensor:
    """Return -log of the attention inside each region, averaged over present regions."""
    inside = (attention * target).sum(_SPATIAL)
    present = (target.sum(_SPATIAL) > 0).float()
    return -(torch.log(inside.clamp_min(1e-4)) * present).sum() / present.sum().clamp_min(1)


def _pool_like(target: Tensor, logits: Tensor, factor: int) -> Tensor:
    """Mean-pool (B, R, I, J, K) labels to the padded grid of coarser logits."""
    missing = [n * factor - m for n, m in zip(logits.shape[2:], target.shape[2:], strict=True)]
    padding = [n for extra in reversed(missing) for n in (0, extra)]
    return functional.avg_pool3d(functional.pad(target, padding), factor)


class _Targets(NamedTuple):
    """Instances of one volume at 1/2 of the padded grid."""

    classes: Tensor
    """(N,) int64, index of a `LesionClass`."""
    masks: Tensor
    """(N, I, J, K) float32 fractions."""
    boxes: Tensor
    """(N, 6) centre and size as shares of the grid."""


def _boxes(masks: Tensor) -> Tensor:
    """Return centre and size, as shares of the grid, of (N, I, J, K) masks; none is empty."""
    centres, sizes = [], []
    for axis in range(3):
        occupied = masks.amax([1 + other for other in range(3) if other != axis]) > 0
        length = occupied.shape[1]
        first = occupied.int().argmax(1) / length
        stop = 1 - occupied.flip(1).int().argmax(1) / length
        centres.append((first + stop) / 2)
        sizes.append(stop - first)
    return torch.stack([*centres, *sizes], 1)


def instance_targets(instances: Tensor, present: Tensor, like: Tensor) -> _Targets:
    """Return the targets of one volume's instances (I, J, K), on the grid of masks (Q, i, j, k).

    A distractor is a target only if a sequence that shows it is `present`, (4,) bool.
    """
    seen = dict(zip(MrSequence, present.tolist(), strict=True))
    numbers = [int(n) for n in torch.unique(instances) if n not in (0, CAVITY)]
    if not (seen[MrSequence.FLAIR] or seen[MrSequence.T2]):
        numbers = [n for n in numbers if n != WHITE_SPOTS]
    if not seen[MrSequence.T1C]:
        numbers = [n for n in numbers if n != ENHANCEMENT]
    kinds = {WHITE_SPOTS: LesionClass.WHITE_MATTER, ENHANCEMENT: LesionClass.VESSEL_OR_DURA}
    order = list(LesionClass)
    classes = [order.index(kinds.get(n, LesionClass.TUMOUR)) for n in numbers]
    masks = like.new_zeros((len(numbers), *like.shape[1:]))
    for row, n in enumerate(numbers):
        masks[row] = _pool_like((instances == n)[None, None].float(), like[None], 2)[0, 0]
    large = masks.sum(_SPATIAL) * 8 >= _MIN_VOX
    chosen = torch.tensor(classes, dtype=torch.int64, device=like.device)[large]
    return _Targets(chosen, masks[large], _boxes(masks[large]))


@torch.no_grad()
def match(output: LesionOutput, item: int, targets: _Targets) -> tuple[Tensor, Tensor]:
    """Return the optimal assignment of queries to targets (DETR, Carion et al. 2020, equation 1).

    Any assignment if the output is not finite: then the loss is not either.
    """
    logits = output.masks[1][item].float().flatten(1)
    goals = functional.avg_pool3d(targets.masks[:, None], 2)[:, 0].flatten(1)
    probability = logits.sigmoid()
    entropy = (functional.softplus(logits).sum(1, keepdim=True) - logits @ goals.T) / len(logits[0])
    sizes = probability.sum(1, keepdim=True) + goals.sum(1)
    dice = 1 - (2 * probability @ goals.T + 1) / (sizes + 1)
    likely = output.classes[item].softmax(-1)[:, targets.classes]
    distance = torch.cdist(output.boxes[item], targets.boxes, p=1)
    cost = _MASK * entropy + _DICE * dice + _BOX * distance - _CLASS * likely
    rows, columns = linear_sum_assignment(cost.nan_to_num().cpu().numpy())
    return torch.tensor(rows, device=cost.device), torch.tensor(columns, device=cost.device)


def set_loss(output: LesionOutput, instances: Tensor, present: Tensor) -> Tensor:
    """Return the mean loss of the lesion queries over a batch (DETR; masks after Mask2Former)."""
    weight = torch.ones(_NONE + 1, device=instances.device)
    weight[_NONE] = _NONE_WEIGHT
    total = output.classes.new_zeros(())
    for item in range(len(instances)):
        like = output.masks[0][item].float()
        targets = instance_targets(instances[item], present[item], like)
        rows, columns = match(output, item, targets)
        classes = torch.full((len(output.classes[item]),), _NONE, device=instances.device)
        classes[rows] = targets.classes[columns]
        total = total + _CLASS * functional.cross_entropy(output.classes[item], classes, weight)
        if not len(rows):
            continue
        distance = (output.boxes[item][rows] - targets.boxes[columns]).abs().sum(1).mean()
        total = total + _BOX * distance
        halved = functional.avg_pool3d(targets.masks[:, None], 2)[:, 0]
        for masks, goals in zip(output.masks, (targets.masks, halved), strict=True):
            logits, goal = masks[item][rows].float(), goals[columns]
            voxel = functional.binary_cross_entropy_with_logits(logits, goal)
            overlap = 2 * (logits.sigmoid() * goal).sum(_SPATIAL) + 1
            size = logits.sigmoid().sum(_SPATIAL) + goal.sum(_SPATIAL) + 1
            total = total + 0.5 * (_MASK * voxel + _DICE * (1 - overlap / size).mean())
    return total / len(instances)
