"""Set prediction loss: match the lesion queries to the lesions, then compute the loss.

After DETR (Carion et al. 2020, equations 1 and 2) with the mask terms of Mask2Former (Cheng et al.
2022, section 3.3). Imports only torch and SciPy, like all training on synthetic brains.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

from lesionlens.base.labels import LesionClass, MrSequence
from lesionlens.network.lens_net import LesionOutput
from lesionlens.network.synth.instances import CAVITY, ENHANCEMENT, WHITE_SPOTS

_NONE = len(LesionClass)
_DISTRACTORS = {WHITE_SPOTS: LesionClass.WHITE_MATTER, ENHANCEMENT: LesionClass.VESSEL_OR_DURA}
_NONE_WEIGHT = 0.15  # class weight of queries without a lesion, which are most
_MIN_VOX = 4.0  # smaller parts on the full grid are ignored
_CLASS, _MASK, _DICE, _BOX = 2.0, 5.0, 5.0, 2.0
"""Weights of class, cross-entropy, Dice and box, in the matching and in the loss."""
_SPATIAL = (-3, -2, -1)


class InstanceTargets(NamedTuple):
    """Target instances of one volume, at 1/2 of the padded grid."""

    classes: Tensor
    """(N,) int64, index of a `LesionClass`."""
    masks: Tensor
    """(N, I, J, K) float32 fractions."""
    boxes: Tensor
    """(N, 6) centre and size relative to the grid."""


def pool_like(target: Tensor, logits: Tensor, factor: int) -> Tensor:
    """Mean-pool (B, R, I, J, K) labels to a coarser, padded grid."""
    padded_size = [n * factor for n in logits.shape[2:]]
    padding: list[int] = []
    for size, target_size in zip(reversed(target.shape[2:]), reversed(padded_size), strict=True):
        padding += [0, target_size - size]
    return functional.avg_pool3d(functional.pad(target, padding), factor)


def _halve(masks: Tensor) -> Tensor:
    """Mean-pool (N, I, J, K), N may be 0, to half of the grid."""
    return functional.avg_pool3d(masks[:, None], 2)[:, 0]


def _boxes(masks: Tensor) -> Tensor:
    """Return centre and size, relative to the grid, of (N, I, J, K) non-empty masks."""
    columns: list[Tensor] = []
    for axis in range(3):
        other_axes = [1 + other for other in range(3) if other != axis]
        occupied = masks.amax(other_axes) > 0
        size = occupied.shape[1]
        first = occupied.int().argmax(1) / size
        stop = 1 - occupied.flip(1).int().argmax(1) / size
        columns += [(first + stop) / 2, stop - first]
    return torch.stack([*columns[::2], *columns[1::2]], 1)


def instance_targets(parts: Tensor, present: Tensor, like: Tensor) -> InstanceTargets:
    """Convert the numbered parts of one volume to target instances.

    Parameters
    ----------
    parts : (I, J, K) uint8 Tensor
        From `synth.instances.number`.
    present : (4,) bool Tensor
        A distractor is a target only if a sequence that shows it is present.
    like : (Q, I/2, J/2, K/2) Tensor
        The queries' masks, which define the padded grid.
    """
    is_present = dict(zip(MrSequence, present.tolist(), strict=True))
    numbers = [int(n) for n in torch.unique(parts) if n not in (0, CAVITY)]
    is_visible = {
        LesionClass.TUMOUR: True,
        LesionClass.WHITE_MATTER: is_present[MrSequence.FLAIR] or is_present[MrSequence.T2],
        LesionClass.VESSEL_OR_DURA: is_present[MrSequence.T1C],
    }
    class_by_number = {n: _DISTRACTORS.get(n, LesionClass.TUMOUR) for n in numbers}
    visible = {n: kind for n, kind in class_by_number.items() if is_visible[kind]}
    kinds = {n: list(LesionClass).index(kind) for n, kind in visible.items()}
    masks = like.new_zeros((len(kinds), *like.shape[1:]))
    for row, n in enumerate(kinds):
        masks[row] = pool_like((parts == n)[None, None].float(), like[None], 2)[0, 0]
    large = masks.sum(_SPATIAL) * 8 >= _MIN_VOX
    classes = torch.tensor(list(kinds.values()), dtype=torch.int64, device=like.device)
    return InstanceTargets(classes[large], masks[large], _boxes(masks[large]))


def _pairs(masks: Tensor, goals: Tensor) -> tuple[Tensor, Tensor]:
    """Return (Q, N) cross-entropy and Dice loss of query logits (Q, V), targets (N, V)."""
    voxels = masks.shape[1]
    entropy = functional.softplus(masks).sum(1, keepdim=True) - masks @ goals.T
    probability = masks.sigmoid()
    overlap = 2 * probability @ goals.T + 1
    dice = 1 - overlap / (probability.sum(1, keepdim=True) + goals.sum(1) + 1)
    return entropy / voxels, dice


@torch.no_grad()
def match(output: LesionOutput, item: int, goal: InstanceTargets) -> tuple[Tensor, Tensor]:
    """Return the optimal assignment of queries to parts of one volume, both (M,) int64.

    Any assignment if the output is not finite: the loss is not either, and the step is skipped.
    """
    coarse = _halve(goal.masks)
    entropy, dice = _pairs(output.masks[1][item].float().flatten(1), coarse.flatten(1))
    class_probability = output.classes[item].softmax(-1)[:, goal.classes]
    box_distance = torch.cdist(output.boxes[item], goal.boxes, p=1)
    cost = _MASK * entropy + _DICE * dice + _BOX * box_distance - _CLASS * class_probability
    pairs = linear_sum_assignment(cost.nan_to_num().cpu().numpy())
    rows, columns = (torch.tensor(side, device=cost.device) for side in pairs)
    return rows, columns


def set_loss(output: LesionOutput, parts: Tensor, present: Tensor) -> Tensor:
    """Return the mean loss of a batch; see `instance_targets` for `parts` and `present`."""
    weight = torch.ones(_NONE + 1, device=parts.device)
    weight[_NONE] = _NONE_WEIGHT
    total = output.classes.new_zeros(())
    for item in range(len(parts)):
        goal = instance_targets(parts[item], present[item], output.masks[0][item].float())
        rows, columns = match(output, item, goal)
        classes = torch.full((len(output.classes[item]),), _NONE, device=parts.device)
        classes[rows] = goal.classes[columns]
        total = total + _CLASS * functional.cross_entropy(output.classes[item], classes, weight)
        if not len(rows):
            continue
        box_distance = (output.boxes[item][rows] - goal.boxes[columns]).abs().sum(1).mean()
        total = total + _BOX * box_distance
        goals = (goal.masks, _halve(goal.masks))
        for masks, targets in zip(output.masks, goals, strict=True):
            logits, target = masks[item][rows].float(), targets[columns]
            voxel = functional.binary_cross_entropy_with_logits(logits, target)
            overlap = 2 * (logits.sigmoid() * target).sum(_SPATIAL) + 1
            size = logits.sigmoid().sum(_SPATIAL) + target.sum(_SPATIAL) + 1
            total = total + 0.5 * (_MASK * voxel + _DICE * (1 - overlap / size).mean())
    return total / len(parts)
