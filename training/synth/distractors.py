"""Mimics of tumours: white-matter spots, enhancing vessels, plexus and dura, cavities, bleeds."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lesionlens.training.losses import CAVITY, ENHANCEMENT, MAX_LESIONS, WHITE_SPOTS
from training.synth.anatomy import CORTEX, SULCUS, VENTRICLE, WHITE, Anatomy
from training.synth.fields import RandomStreams, SyntheticFrame, blur, noise, spread

_MIN_FRACTION = 0.5  # voxel fraction at which a distractor is included


@dataclass(frozen=True, slots=True)
class Distractors:
    """Soft masks, each (B, 1, I, J, K)."""

    white_spots: Tensor
    vessels: Tensor
    plexus: Tensor
    dura: Tensor
    bleeds: Tensor


def _in_fraction_of_volumes(streams: RandomStreams, chance: float, field: Tensor) -> Tensor:
    return field * spread(streams.chance(chance).float())


def carve_cavity(
    streams: RandomStreams, frame: SyntheticFrame, anatomy: Anatomy, chance: float
) -> tuple[Anatomy, Tensor]:
    """Replace tissue by CSF in one ragged ellipsoid, as after surgery; also return it, 0 to 1."""
    centre = streams.uniform(-1, 1, 3) * torch.tensor([58.0, 72.0, 48.0], device=streams.device)
    size = streams.log_uniform(5, 24, 1) * streams.log_uniform(0.7, 1.4, 3)
    offset = (frame.grid_mm() - spread(centre)) / spread(size)
    ragged = 0.15 * noise(streams, frame, streams.uniform(12, 20), low=12)
    cavity = torch.sigmoid((1 - offset.norm(dim=1, keepdim=True) + ragged) / 0.08)
    cavity = _in_fraction_of_volumes(streams, chance, cavity)
    tissue = anatomy.tissue * (1 - cavity)
    tissue[:, SULCUS : SULCUS + 1] += cavity
    return replace(anatomy, tissue=tissue), cavity


def _dura(streams: RandomStreams, frame: SyntheticFrame, anatomy: Anatomy) -> Tensor:
    """Return venous sinuses and patches of the dura and falx."""
    patch = noise(streams, frame, streams.uniform(20, 32), low=20, channels=2)
    patch = torch.sigmoid((patch - spread(streams.uniform(-0.5, 1.5, 2))) / 0.2)
    width = streams.uniform(0.8, 1.8) + streams.chance(0.35) * streams.uniform(0.0, 3.5)
    inner = blur(anatomy.mask, frame, torch.maximum(width, 0.6 * frame.spacing))
    rim = ((1 - inner) * 2).clamp(0, 1) * anatomy.mask
    falx = torch.exp(-((anatomy.midline_mm / spread(streams.uniform(0.8, 2.0))) ** 2))
    falx = falx * anatomy.tissue[:, SULCUS : SULCUS + 1] * anatomy.mask
    outer = torch.maximum(rim * patch[:, :1], anatomy.sinus * anatomy.mask)
    return torch.maximum(
        _in_fraction_of_volumes(streams, 0.6, outer),
        _in_fraction_of_volumes(streams, 0.5, falx * patch[:, 1:]),
    )


def scatter(
    streams: RandomStreams, frame: SyntheticFrame, anatomy: Anatomy, lesion: Tensor
) -> Distractors:
    """Sample the distractors of one geometry.

    No spots and vessels are placed in `lesion`, (B, 1, I, J, K): the fraction of tumour tissue.
    """
    tissue, healthy = anatomy.tissue, (1 - lesion).clamp(0, 1)
    ventricle = tissue[:, VENTRICLE : VENTRICLE + 1]
    near_ventricle = blur(ventricle, frame, 7.0)
    spots = noise(streams, frame, streams.uniform(5, 14), low=5, octaves=2)
    spots = spots + spread(streams.uniform(0.0, 6.5)) * near_ventricle
    spots = torch.sigmoid((spots - spread(streams.uniform(1.0, 2.8))) / 0.12)
    spots = _in_fraction_of_volumes(streams, 0.7, spots * tissue[:, WHITE : WHITE + 1] * healthy)
    pair = noise(streams, frame, streams.uniform(13, 26), low=13, channels=2)
    width = spread(streams.uniform(0.07, 0.2))
    lines = torch.exp(-pair.square().sum(1, keepdim=True) / (2 * width**2))
    likelihood = 0.25 + tissue[:, SULCUS : SULCUS + 1] + 0.3 * tissue[:, CORTEX : CORTEX + 1]
    tuft = torch.sigmoid((noise(streams, frame, streams.uniform(7, 11), low=7) - 0.8) / 0.15)
    dots = noise(streams, frame, streams.uniform(5, 7), low=5)
    dots = torch.sigmoid((dots - spread(streams.uniform(2.6, 3.4))) / 0.15) * healthy
    return Distractors(
        white_spots=spots,
        vessels=_in_fraction_of_volumes(streams, 0.8, (lines * likelihood * healthy).clamp(0, 1)),
        plexus=_in_fraction_of_volumes(streams, 0.65, tuft * ventricle),
        dura=_dura(streams, frame, anatomy),
        bleeds=_in_fraction_of_volumes(streams, 0.2, dots * (1 - ventricle)),
    )


def number(whole: Tensor, nearest: Tensor, extra: Distractors, hole: Tensor) -> Tensor:
    """Return the instance numbers of a batch, (B, I, J, K) uint8, as in `losses.Batch`.

    Touching lesions share the lowest number. `whole` is the whole-tumour label and `nearest` the
    index of each voxel's lesion, (B, I, J, K); `hole` is the cavity, (B, 1, I, J, K).
    """
    parts = torch.where(whole, nearest + 1, 0)
    parts = torch.stack([_merged_numbers(part_numbers)[part_numbers] for part_numbers in parts])
    bright = torch.maximum(torch.maximum(extra.vessels, extra.plexus), extra.dura)
    bright = bright[:, 0] > _MIN_FRACTION
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
