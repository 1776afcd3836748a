"""Synthetic brains: a warped anatomy with folding, atrophy and brain mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from training.synth.atlas import CEREBELLUM, MASK, SINUS, TISSUES, load_atlas
from training.synth.fields import RandomStreams, SyntheticFrame, blur, noise, spread

CORTEX, WHITE, SULCUS, VENTRICLE, DEEP = range(5)
"""Channels of `Anatomy.tissue`."""


@dataclass(frozen=True, slots=True)
class Pose:
    """Transform from patient mm (about the volume's centre) to atlas mm, per volume."""

    linear: Tensor
    """(B, 3, 3)."""
    shift: Tensor
    """(B, 3), atlas mm."""

    def to_patient(self, atlas_mm: Tensor) -> Tensor:
        """Map atlas points (B, N, 3) to patient mm."""
        patient_mm: Tensor = (atlas_mm - self.shift[:, None]) @ torch.linalg.inv(
            self.linear
        ).transpose(1, 2)
        return patient_mm


@dataclass(frozen=True, slots=True)
class Anatomy:
    """Healthy tissue of a batch; every tensor is (B, C, I, J, K)."""

    tissue: Tensor
    """Five tissue fractions that sum to one: cortex, white, outer CSF, ventricle, deep grey."""
    cerebellum: Tensor
    """0-1, one channel."""
    brain: Tensor
    """1 inside the brain, one channel."""
    mask: Tensor
    """1 inside the brain mask, which includes remainders of dura and bone, one channel."""
    midline_mm: Tensor
    """Signed distance from the sagittal midplane, one channel."""
    sinus: Tensor
    """0-1 where a venous sinus runs beside the brain, one channel."""


def rotation(angles: Tensor) -> Tensor:
    """Return rotation matrices (..., 3, 3) from angles (..., 3) in radians about the three axes."""
    c, s = angles.cos().unbind(-1), angles.sin().unbind(-1)
    ones, zeros = torch.ones_like(c[0]), torch.zeros_like(c[0])

    def matrix(*rows: Tensor) -> Tensor:
        return torch.stack(rows, -1).view(*angles.shape[:-1], 3, 3)

    about_x = matrix(ones, zeros, zeros, zeros, c[0], -s[0], zeros, s[0], c[0])
    about_y = matrix(c[1], zeros, s[1], zeros, ones, zeros, -s[1], zeros, c[1])
    about_z = matrix(c[2], -s[2], zeros, s[2], c[2], zeros, zeros, zeros, ones)
    rotations: Tensor = about_x @ about_y @ about_z
    return rotations


def sample_pose(streams: RandomStreams) -> Pose:
    """Sample head pose: rotations to 12 degrees, scales .86 to 1.15, some sheared or mirrored."""
    scale = streams.uniform(0.91, 1.10, 3) * streams.uniform(0.94, 1.05, 1)
    turn = rotation(torch.deg2rad(streams.uniform(-12, 12, 3)))
    shear = torch.eye(3, device=streams.device) + torch.triu(streams.uniform(-0.06, 0.06, 3, 3), 1)
    linear = turn @ shear @ torch.diag_embed(1 / scale)
    mirror = torch.ones(len(streams), 3, device=streams.device)
    mirror[:, 0] = torch.where(streams.chance(0.5), -1.0, 1.0)
    return Pose(linear * mirror[:, None], streams.uniform(-5, 5, 3))


def warp(streams: RandomStreams, frame: SyntheticFrame, pose: Pose, grid_mm: Tensor) -> Tensor:
    """Return every voxel's atlas position, mm, (B, 3, I, J, K): pose and two elastic scales."""
    point = torch.einsum("bij,bjxyz->bixyz", pose.linear, grid_mm) + spread(pose.shift)
    long, short = streams.uniform(45, 65), streams.uniform(18, 28)
    point = point + noise(streams, frame, long, low=45, channels=3) * spread(streams.uniform(1, 4))
    return point + noise(streams, frame, short, low=18, channels=3) * spread(
        streams.uniform(0.4, 2.2)
    )


def _sample(heads: Sequence[int], frame: SyntheticFrame, point: Tensor) -> Tensor:
    """Sample each volume's atlas at (B, 3, I, J, K) positions; (B, 8, I, J, K)."""
    sampled = []
    for head, spacing, position in zip(heads, frame.spacing.cpu().tolist(), point, strict=True):
        atlas = load_atlas(head, spacing, point.device)
        sampled.append(sample_maps(atlas.maps, atlas.to_voxel, position, "border"))
    return torch.stack(sampled)


def sample_maps(maps: Tensor, to_voxel: Tensor, point: Tensor, padding: str = "zeros") -> Tensor:
    """Sample maps (C, I, J, K) at atlas positions (3, I', J', K'), mm."""
    size = torch.tensor(maps.shape[1:], device=point.device).view(3, 1, 1, 1)
    voxel = torch.einsum("ij,jxyz->ixyz", to_voxel[:, :3], point)
    unit = 2 * (voxel + to_voxel[:, 3].view(3, 1, 1, 1)) / (size - 1) - 1
    at = unit.flip(0).movedim(0, -1)[None]
    return functional.grid_sample(maps[None], at, padding_mode=padding, align_corners=True)[0]


def _masks(
    streams: RandomStreams, frame: SyntheticFrame, coverage: Tensor
) -> tuple[Tensor, Tensor]:
    """Return brain and mask; real masks include a rim of dura and bone, or miss cortex."""
    ragged = coverage + 0.12 * noise(streams, frame, streams.uniform(11, 18), low=11)
    brain = (ragged > spread(streams.uniform(0.3, 0.65))).float()
    halo = blur(brain, frame, 4.0)
    wavy = halo + 0.10 * noise(streams, frame, streams.uniform(18, 28), low=18, octaves=2)
    level = torch.where(
        streams.chance(0.8), streams.uniform(0.10, 0.55), torch.full_like(wavy[:, 0, 0, 0, 0], 9)
    )
    scraps = (wavy > spread(level)) & (halo > 0.08)
    return brain, torch.maximum(brain, scraps.float())


def grow(
    streams: RandomStreams, frame: SyntheticFrame, heads: Sequence[int], point: Tensor
) -> Anatomy:
    """Build the tissue of brains of these anatomies.

    `point` is the atlas position of every voxel, mm, mass effect included, (B, 3, I, J, K).
    """
    maps = _sample(heads, frame, point)
    brain, mask = _masks(streams, frame, maps[:, MASK : MASK + 1])
    finer = (2.0 / frame.spacing).clamp(0.8, 1.5)
    logits = maps[:, :TISSUES].clamp_min(1e-3).log() * spread(streams.uniform(1.0, 1.9) * finer)
    coarse_noise = noise(streams, frame, streams.uniform(13, 20), low=13, channels=5, octaves=2)
    folds = noise(streams, frame, streams.uniform(6.5, 10), low=6.5, channels=3)
    logits = logits + coarse_noise * spread(streams.uniform(0.1, 0.6))
    logits[:, :3] += folds * spread(streams.uniform(0.0, 0.8))
    atrophy = streams.uniform(-0.7, 0.9, 1)
    fluid_shift = torch.cat([atrophy, atrophy + streams.uniform(-0.3, 0.7, 1)], 1)
    logits[:, SULCUS : VENTRICLE + 1] += spread(fluid_shift)
    return Anatomy(
        tissue=logits.softmax(1),
        cerebellum=maps[:, CEREBELLUM : CEREBELLUM + 1],
        brain=brain,
        mask=mask,
        midline_mm=point[:, :1],
        sinus=maps[:, SINUS : SINUS + 1],
    )
