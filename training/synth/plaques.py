"""Plaques of demyelination: ovoid, at right angles to the ventricle, some of them black holes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.synth.anatomy import CORTEX, VENTRICLE, WHITE, Anatomy
from training.synth.contrast import CLASSES
from training.synth.fields import RandomStreams, SyntheticFrame, blur, noise, spread

STREAM = 6_000
"""Random stream of the plaques' geometry; `STREAM` + 1 + n is that of the n-th painting."""
MAX_PLAQUES = 12
_OEDEMA, _WHITE = map(CLASSES.index, ("oedema", "white"))
_PERIVENTRICULAR_MM, _JUXTACORTICAL_MM, _OTHER_WHITE_WEIGHT = 6.0, 3.0, 0.03
"""How far from ventricle and cortex plaques mostly lie, and the weight of other white matter."""


@dataclass(frozen=True, slots=True)
class Plaques:
    """Soft masks, each (B, 1, I, J, K)."""

    every: Tensor
    holes: Tensor
    """Those that are dark on T1."""
    ring: Tensor
    """Rim of those that enhance, open on one side."""


def scatter_plaques(
    streams: RandomStreams, frame: SyntheticFrame, anatomy: Anatomy, lesion: Tensor, chance: float
) -> Plaques:
    """Sample plaques in a share `chance` of the volumes, where there is no tumour.

    Parameters
    ----------
    lesion : (B, 1, I, J, K) Tensor
        Fraction of tumour tissue.
    """
    grid, tissue = frame.grid_mm(), anatomy.tissue
    white = tissue[:, WHITE : WHITE + 1] * (1 - 2 * lesion).clamp(0, 1) * anatomy.brain
    ventricle = blur(tissue[:, VENTRICLE : VENTRICLE + 1], frame, _PERIVENTRICULAR_MM)
    cortex = blur(tissue[:, CORTEX : CORTEX + 1], frame, _JUXTACORTICAL_MM)
    weight = white * (ventricle + 0.1 * cortex + _OTHER_WHITE_WEIGHT).square()
    centre, direction = _sample_sites(streams, grid, weight, ventricle, frame)
    axial_radius = streams.log_uniform(2.5, 9, MAX_PLAQUES)
    radial_radius = axial_radius * streams.uniform(0.35, 0.85, MAX_PLAQUES)
    count = streams.uniform(2, MAX_PLAQUES + 0.999).floor() * streams.chance(chance)
    is_dark, is_active = streams.chance(0.4, MAX_PLAQUES), streams.chance(0.12, MAX_PLAQUES)
    opening = streams.normal(MAX_PLAQUES, 3)
    ragged = 0.15 * noise(streams, frame, streams.uniform(8, 14), low=8, octaves=2)
    edge = torch.maximum(streams.log_uniform(0.5, 1.2), 0.3 * frame.spacing)
    masks = [torch.zeros_like(white) for _ in range(3)]
    for n in range(MAX_PLAQUES):
        offset = grid - spread(centre[:, n])
        axial = (offset * spread(direction[:, n])).sum(1, keepdim=True)
        radial = (offset.square().sum(1, keepdim=True) - axial.square()).clamp_min(0)
        size = (axial / spread(axial_radius[:, n])).square() + radial / spread(
            radial_radius[:, n]
        ).square()
        signed = (size.sqrt() - 1 + ragged) * spread(radial_radius[:, n])
        plaque = torch.sigmoid(-signed / spread(edge)) * spread((count > n).float())
        rim = plaque - torch.sigmoid(-(signed + 1.8) / spread(edge)) * plaque
        side = torch.sigmoid((offset * spread(opening[:, n])).sum(1, keepdim=True))
        parts = (
            plaque,
            plaque * spread(is_dark[:, n].float()),
            rim * side * spread(is_active[:, n].float()),
        )
        masks = [torch.maximum(mask, part) for mask, part in zip(masks, parts, strict=True)]
    all_plaques, holes, ring = (mask * white.clamp(0, 1) for mask in masks)
    return Plaques(all_plaques, holes, ring)


def _sample_sites(
    streams: RandomStreams, grid: Tensor, weight: Tensor, ventricle: Tensor, frame: SyntheticFrame
) -> tuple[Tensor, Tensor]:
    """Sample centres, mm, and the direction away from the ventricle, (B, MAX_PLAQUES, 3) each."""
    total = weight.flatten(1).double().cumsum(1)
    roll = streams.uniform(0, 1, MAX_PLAQUES).double() * total[:, -1:]
    voxel_index = torch.searchsorted(total, roll).clamp_max(total.shape[1] - 1)
    slopes = torch.stack(torch.gradient(ventricle[:, 0], dim=(1, 2, 3)), 1)

    def chosen(field: Tensor) -> Tensor:
        return field.flatten(2).gather(2, voxel_index[:, None].expand(-1, 3, -1)).transpose(1, 2)

    down = -chosen(slopes / frame.spacing.view(-1, 1, 1, 1, 1))
    return chosen(grid), down / down.norm(dim=-1, keepdim=True).clamp_min(1e-6)


def overlay_plaques(
    streams: RandomStreams, plaques: Plaques, image: Tensor, values: Tensor
) -> Tensor:
    """Add plaques to (B, 4, I, J, K): bright on T2 and FLAIR, the holes among them dark on T1."""
    gain = streams.uniform(0.4, 1.2, 2) * (values[:, 2:, _OEDEMA] - values[:, 2:, _WHITE]).abs()
    t1, t1c, t2, flair = torch.split(image, 1, 1)
    t2 = t2 + plaques.every * spread(gain[:, :1])
    flair = flair + plaques.every * spread(gain[:, 1:])
    flair = flair - plaques.holes * spread(streams.uniform(0, 0.35))
    dark = plaques.every * spread(streams.uniform(0, 0.2))
    dark = dark + plaques.holes * spread(streams.uniform(0.1, 0.45))
    t1, t1c = t1 - dark, t1c - dark + plaques.ring * spread(streams.uniform(0.4, 1.3))
    return torch.cat([t1, t1c, t2, flair], 1).clamp_min(0)
