"""Augmentation of real volumes: shape, contrast and simulated acquisition.

Shape: rotation, scaling, shear and mild warping. Contrast: a random monotone curve for each
sequence. Then `synth.artefacts.acquire`: bias field, thick slices, blur, noise, cropping.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lesionlens.network.normalise import Z_LIMIT
from training.lens.volumes import Piece, brain_box
from training.synth.artefacts import SEQUENCES, Damage, acquire
from training.synth.fields import RandomStreams, SyntheticFrame, noise

_MILD_DAMAGE = Damage(bias=0.3, thick=0.25, protocol=0.12, spoiled=0.04, shift_mm=0.6, noise=0.05)
"""Weaker than for synthetic volumes: real scans have artefacts of their own."""
_KNOTS = 7
_BLACK, _WHITE = 0.002, 0.98  # quantiles of the brain mapped to intensity 0 and 1
_BORDER_VOX = 6  # margin around a brain, so that it may be enlarged


def augment(piece: Piece, spacing_mm: float, rng: np.random.Generator) -> Piece:
    """Return an augmented volume; each sequence keeps its mean and deviation."""
    streams = RandomStreams([int(rng.integers(2**31))], torch.device("cpu"))
    before, code, instances = (
        functional.pad(a, [_BORDER_VOX] * 6)
        for a in (piece.channels.float(), piece.code, piece.instances)
    )
    i, j, k = code.shape
    frame = SyntheticFrame((i, j, k), torch.tensor([spacing_mm]))
    coordinates = _sampling_grid(streams, frame)
    labels = torch.stack([code, instances]).float()[None]
    new_code, new_instances = _sample(labels, coordinates, "nearest")[0].to(torch.uint8)
    if not bool((new_code > 0).any()):
        return piece
    inside = new_code > 0
    moved = _sample(before[None], coordinates)[0]
    intensities = torch.stack([_intensities(volume, inside) for volume in moved])
    curved = _with_curves(streams, intensities) * inside
    imaged = acquire(streams, frame, curved[None], inside[None, None].float(), _MILD_DAMAGE)[0]
    channels = _scaled_like(before[:, code > 0], imaged, inside)
    channels = channels * torch.from_numpy(piece.present)[:, None, None, None]
    new = replace(piece, channels=channels.half(), code=new_code, instances=new_instances)
    return new.part(brain_box(new_code))


def _sampling_grid(streams: RandomStreams, frame: SyntheticFrame) -> Tensor:
    """Return sampling coordinates for `grid_sample`: affine and warp; (1, I, J, K, 3)."""
    generator = torch.zeros(3, 3)
    angle = streams.normal(3)[0].clamp(-2, 2) * math.radians(7)
    for n, (a, b) in enumerate(((0, 1), (0, 2), (1, 2))):
        generator[a, b], generator[b, a] = angle[n], -angle[n]
    shear = streams.normal(3, 3)[0].clamp(-2, 2) * 0.03
    scale = streams.log_uniform(0.86, 1.16)[0] * streams.log_uniform(0.95, 1.05, 3)[0]
    affine = torch.linalg.matrix_exp(generator) @ (torch.eye(3) + shear) @ torch.diag(scale)
    positions_mm = torch.einsum("ab,nbijk->naijk", affine, frame.grid_mm())
    strength = streams.uniform(0.0, 3.0)
    warp_mm = strength * noise(streams, frame, streams.uniform(30, 70), low=30, channels=3)
    positions_mm = positions_mm + warp_mm
    half = torch.tensor([max(1, n - 1) / 2 for n in frame.shape]) * frame.spacing
    return (positions_mm / half[None, :, None, None, None]).permute(0, 2, 3, 4, 1).flip(-1)


def _sample(volume: Tensor, coordinates: Tensor, mode: str = "bilinear") -> Tensor:
    return functional.grid_sample(volume, coordinates, mode=mode, align_corners=True)


def _intensities(volume: Tensor, inside: Tensor) -> Tensor:
    """Map z-scores to intensities from 0 to about 1."""
    low, high = torch.quantile(volume[inside][::7], torch.tensor([_BLACK, _WHITE])).tolist()
    intensities: Tensor = ((volume - low) / max(high - low, 1e-3)).clamp(0, 1.6)
    return intensities


def _with_curves(streams: RandomStreams, intensities: Tensor) -> Tensor:
    """Apply a random increasing curve to each sequence, mostly mild; (4, I, J, K)."""
    steps = streams.log_uniform(0.45, 2.2, SEQUENCES, _KNOTS)[0]
    mild = streams.uniform(0.0, 1.0, SEQUENCES, 1)[0]
    steps = mild * steps / steps.mean(1, keepdim=True) + (1 - mild)
    knots = torch.cat([torch.zeros(SEQUENCES, 1), steps.cumsum(1)], 1) / _KNOTS
    position = intensities.clamp(0, 1) * _KNOTS
    below = position.floor().clamp(max=_KNOTS - 1)
    lower_knot, fraction = below.long().flatten(1), (position - below).flatten(1)
    low, high = knots.gather(1, lower_knot), knots.gather(1, lower_knot + 1)
    curved = low + fraction * (high - low)
    out: Tensor = curved.view(intensities.shape) + (intensities - 1).clamp_min(0)
    return out


def _scaled_like(before: Tensor, after: Tensor, inside: Tensor) -> Tensor:
    """Restore the mean and deviation of (4, N) z-scores; (4, I, J, K)."""
    new = after[:, inside]
    scale = before.std(1) / new.std(1).clamp_min(1e-4)
    shift = before.mean(1) - new.mean(1) * scale
    values = after * scale[:, None, None, None] + shift[:, None, None, None]
    out: Tensor = values.clamp(-Z_LIMIT, Z_LIMIT) * inside
    return out
