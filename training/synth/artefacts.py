"""Simulated acquisition: bias field, thick slices, blur, motion, cropping, noise."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.synth.fields import (
    RandomStreams,
    SyntheticFrame,
    along_axes,
    blur_matrix,
    noise,
    slice_matrix,
    spread,
)

SEQUENCES = 4


@dataclass(frozen=True, slots=True)
class Damage:
    """How strongly images are degraded."""

    bias: float = 0.45
    """Peak log-amplitude of the bias field; surface coils reach .45."""
    thick: float = 0.5
    """Share of images with thick slices."""
    protocol: float = 0.25
    """Share of volumes of which all sequences are in thick slices of one direction, as 2-D
    protocols have them; half of these keep a thin T1c."""
    spoiled: float = 0.10
    """Share of volumes with one sequence very blurred or cropped on one side."""
    shift_mm: float = 1.2
    """Largest misregistration between sequences."""
    noise: float = 0.07
    """Maximum noise, relative to the 98th percentile."""


def shade(streams: RandomStreams, frame: SyntheticFrame, image: Tensor, strength: float) -> Tensor:
    """Multiply by a smooth bias field, partly shared by the sequences."""
    shared = noise(streams, frame, streams.uniform(70, 150), low=70)
    separate = noise(streams, frame, streams.uniform(60, 180), low=60, channels=SEQUENCES)
    amplitude = spread(streams.beta(1.2, 2.2, SEQUENCES) * strength)
    return image * torch.exp(0.5 * amplitude * (separate + shared))


def _one_of_three(streams: RandomStreams) -> Tensor:
    """Sample a random axis for each image, one-hot (B, 4, 3)."""
    pick = streams.uniform(0, 2.9999, SEQUENCES).long()
    return torch.nn.functional.one_hot(pick, 3).float()


def _protocol(
    streams: RandomStreams, axis: Tensor, thick: Tensor, share: float
) -> tuple[Tensor, Tensor]:
    """Give some volumes slices of one direction and similar thickness in every sequence."""
    has_protocol = streams.chance(share)
    common = streams.log_uniform(3.0, 6.5, 1) * streams.uniform(0.85, 1.15, SEQUENCES)
    common[:, 1] = common[:, 1] * streams.chance(0.5)
    axis = torch.where(has_protocol[:, None, None], axis[:, :1], axis)
    return axis, torch.where(has_protocol[:, None], common, thick)


def _acquisition(streams: RandomStreams, frame: SyntheticFrame, damage: Damage) -> list[Tensor]:
    """Return one matrix (B, 4, N, N) per axis: slices, blur and misregistration combined."""
    spacing = frame.spacing[:, None, None]
    axis = _one_of_three(streams)
    thick = streams.log_uniform(1.5, 6.5, SEQUENCES) * streams.chance(damage.thick, SEQUENCES)
    axis, thick = _protocol(streams, axis, thick, damage.protocol)
    is_spoiled = torch.nn.functional.one_hot(streams.uniform(0, 3.9999).long(), SEQUENCES).float()
    spoiled = streams.chance(damage.spoiled) & streams.chance(0.6)
    is_spoiled = is_spoiled * spoiled.float()[:, None]
    sigma = streams.uniform(0.0, 0.9, SEQUENCES, 1) + 0.3 * thick[..., None] * axis
    extra = is_spoiled * streams.uniform(2.0, 4.5, SEQUENCES)
    sigma = sigma + extra[..., None] * axis.roll(1, -1)
    shift_mm = streams.normal(SEQUENCES, 3).clamp(-2, 2) / 2 * damage.shift_mm
    shift_mm = shift_mm * streams.chance(0.4, SEQUENCES, 1)
    shift_mm[:, 1] = shift_mm[:, 1] * streams.chance(0.5).float()[:, None]
    thickness = thick[..., None] * axis / spacing
    matrices = []
    for k, size in enumerate(frame.shape):
        smooth = blur_matrix((sigma / spacing)[..., k], size)
        slices = slice_matrix(thickness[..., k], (shift_mm / spacing)[..., k], size)
        matrices.append(slices @ smooth)
    return matrices


def _field_of_view(streams: RandomStreams, frame: SyntheticFrame, share: float) -> Tensor:
    """Return 1 inside the field of view, cropped on one side in some images; (B, 4, I, J, K)."""
    is_cropped = torch.nn.functional.one_hot(streams.uniform(0, 3.9999).long(), SEQUENCES).bool()
    is_cropped = is_cropped & streams.chance(share)[:, None]
    axis, side = _one_of_three(streams), streams.chance(0.5, SEQUENCES).float() * 2 - 1
    limit = streams.uniform(35, 72, SEQUENCES)
    keep = torch.ones(len(streams), SEQUENCES, 1, 1, 1, device=streams.device)
    for k, position_mm in enumerate(frame.axes_mm()):
        along = position_mm[:, None] * side[..., None] < limit[..., None]
        along = along | ~is_cropped[..., None] | (axis[..., k, None] == 0)
        view = [len(streams), SEQUENCES, 1, 1, 1]
        view[2 + k] = position_mm.shape[1]
        keep = keep * along.float().view(view)
    return keep


def acquire(
    streams: RandomStreams, frame: SyntheticFrame, image: Tensor, mask: Tensor, damage: Damage
) -> Tensor:
    """Degrade images (B, 4, I, J, K) that are positive inside the mask (B, 1, I, J, K).

    As after skull-stripping, voxels outside the mask are zero and do not contribute. The result is
    between 0 and about 1.3.
    """
    image = shade(streams, frame, image, damage.bias) * mask
    image = image * _field_of_view(streams, frame, 0.5 * damage.spoiled)
    matrices = _acquisition(streams, frame, damage)
    support = along_axes(mask.expand(-1, SEQUENCES, -1, -1, -1), matrices)
    image = along_axes(image, matrices) / support.clamp_min(0.3)
    flat = image.flatten(2)[..., ::17]
    inside = mask.flatten(2)[..., ::17].expand_as(flat) > 0
    high = torch.nanquantile(torch.where(inside, flat, torch.nan), 0.98, dim=2).nan_to_num(1.0)
    image = (image / spread(high.clamp_min(1e-3))).clamp_min(0)
    image = image ** spread(streams.uniform(-0.25, 0.25, SEQUENCES).exp())
    level = spread(streams.beta(1.0, 2.5, SEQUENCES) * damage.noise)
    grain = streams.normal(SEQUENCES, *frame.shape)
    return (image + grain * level).clamp_min(0) * mask
