"""Instance numbers: each lesion separately, distractors by type."""

from __future__ import annotations

import torch
from torch import Tensor

from lesionlens.training.losses import CAVITY, ENHANCEMENT, MAX_LESIONS, WHITE_SPOTS
from training.synth.distractors import Distractors

_MIN_FRACTION = 0.5  # voxel fraction at which a distractor is included


def number(whole: Tensor, nearest: Tensor, extra: Distractors, hole: Tensor) -> Tensor:
    """Assign instance numbers to the lesions and distractors of a batch.

    Parameters
    ----------
    whole : (B, I, J, K) bool Tensor
        The whole-tumour label.
    nearest : (B, I, J, K) int64 Tensor
        Index of each voxel's lesion, 0 to `MAX_LESIONS` - 1.
    hole : (B, 1, I, J, K) Tensor
        Fraction of the cavity, from `carve_cavity`.

    Returns
    -------
    (B, I, J, K) uint8 Tensor
        0 background; 1 to `MAX_LESIONS` lesions, touching ones sharing the lowest number;
        `WHITE_SPOTS`; `ENHANCEMENT`; `CAVITY`, where there is no lesion.
    """
    parts = torch.where(whole, nearest + 1, 0)
    parts = torch.stack([_merged_numbers(part_numbers)[part_numbers] for part_numbers in parts])
    bright = (
        torch.maximum(torch.maximum(extra.vessels, extra.plexus), extra.dura)[:, 0] > _MIN_FRACTION
    )
    parts = torch.where((parts == 0) & bright, ENHANCEMENT, parts)
    spots = extra.white_spots[:, 0] > _MIN_FRACTION
    parts = torch.where((parts % ENHANCEMENT == 0) & spots, WHITE_SPOTS, parts)
    cavity = ~whole & (hole[:, 0] > _MIN_FRACTION)
    return torch.where(cavity, CAVITY, parts).to(torch.uint8)


def _merged_numbers(parts: Tensor) -> Tensor:
    """Return the lowest number among connected lesions."""
    count = MAX_LESIONS + 1
    touches = torch.eye(count, dtype=torch.bool, device=parts.device)
    for axis in range(3):
        length = parts.shape[axis] - 1
        lower, upper = parts.narrow(axis, 0, length), parts.narrow(axis, 1, length)
        meets = (lower > 0) & (upper > 0) & (lower != upper)
        touches[lower[meets], upper[meets]] = True
        touches[upper[meets], lower[meets]] = True
    for _ in range(3):  # a chain of eight has seven links
        touches = (touches.float() @ touches.float()) > 0
    return touches.float().argmax(1)
