"""Augmentation of real volumes: shape, contrast and simulated acquisition.

Shape: rotation, scaling, shear and mild warping. Contrast: a random monotone curve for each
sequence. Then `synth.artefacts.acquire`: bias field, thick slices, blur, noise, cropping.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lesionlens.network.normalise import Z_LIMIT
from training.lens.volumes import Packed, cut_window
from training.synth.artefacts import SEQUENCES, Damage, acquire
from training.synth.fields import RandomStreams, SyntheticFrame, noise

_CPU = torch.device("cpu")
_MILD_DAMAGE = Damage(bias=0.3, thick=0.25, protocol=0.12, spoiled=0.04, shift_mm=0.6, noise=0.05)
"""Weaker than for synthetic volumes: real scans have artefacts of their own."""
_KNOTS = 7
_BLACK, _WHITE = 0.002, 0.98  # quantiles of the brain mapped to intensity 0 and 1
_OVERSIZE = 1.25  # of a window before rotation, so that it remains full afterwards
_BORDER_VOX = 6  # margin around a whole brain, so that it may be enlarged

Window = tuple[int, int, int]


def augment(
    packed: Packed, spacing_mm: float, window: Window | None, rng: np.random.Generator
) -> Packed:
    """Return an augmented volume, or a window of it.

    Parameters
    ----------
    window : (3,) int or None
        Window size; mostly at a lesion.

    Returns
    -------
    Packed
        Each sequence keeps its mean and deviation, so that a window remains normalised by its whole
        brain.
    """
    streams = RandomStreams([int(rng.integers(2**31))], _CPU)
    if window is None:
        return _cropped_to_brain(_reimaged(_bordered(packed), spacing_mm, streams))
    oversize = tuple(math.ceil(_OVERSIZE * n) for n in window)
    window_with_margin = cut_window(packed, (oversize[0], oversize[1], oversize[2]), rng)
    return _centre_window(_reimaged(window_with_margin, spacing_mm, streams), window)


def _bordered(packed: Packed) -> Packed:
    def padded(array: NDArray[Any]) -> NDArray[Any]:
        unpadded = [(0, 0)] * (array.ndim - 3)
        return np.pad(array, [*unpadded, *[(_BORDER_VOX, _BORDER_VOX)] * 3])

    return _map_arrays(packed, padded)


def _map_arrays(packed: Packed, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Packed:
    """Apply a function to all voxel arrays."""
    return dataclasses.replace(
        packed,
        channels=change(packed.channels),
        code=change(packed.code),
        instances=change(packed.instances),
    )


def _cropped_to_brain(packed: Packed) -> Packed:
    inside = np.nonzero(packed.code)
    i, j, k = (slice(int(a.min()), int(a.max()) + 1) for a in inside)
    return _map_arrays(packed, lambda array: array[..., i, j, k])


def _centre_window(packed: Packed, window: Window) -> Packed:
    box: list[slice] = []
    position_range = packed.position_range.copy()
    for axis, (size, length) in enumerate(zip(packed.code.shape, window, strict=True)):
        start = max(0, (size - length) // 2)
        stop = min(size, start + length)
        low, high = packed.position_range[axis]
        position_range[axis] = low + (high - low) * np.array([start, stop]) / size
        box.append(slice(start, stop))
    i, j, k = box
    cropped = _map_arrays(packed, lambda array: array[..., i, j, k].copy())
    return dataclasses.replace(cropped, position_range=position_range)


def _reimaged(packed: Packed, spacing_mm: float, streams: RandomStreams) -> Packed:
    i, j, k = packed.code.shape
    frame = SyntheticFrame((i, j, k), torch.tensor([spacing_mm]))
    coordinates = _sampling_grid(streams, frame)
    label_maps = np.stack([packed.code, packed.instances]).astype(np.float32)
    sampled = _sample(torch.from_numpy(label_maps)[None], coordinates, "nearest")
    code, parts = sampled[0].to(torch.uint8)
    if not bool((code > 0).any()):
        return packed
    before = torch.from_numpy(packed.channels.astype(np.float32))
    moved = _sample(before[None], coordinates)
    imaged = _imaged(streams, frame, moved, (code > 0)[None, None])
    imaged = _scaled_like(before[:, torch.from_numpy(packed.code > 0)], imaged, code > 0)
    present = torch.from_numpy(packed.present)[:, None, None, None]
    return dataclasses.replace(
        packed,
        channels=(imaged * present).half().numpy(),
        code=code.numpy(),
        instances=parts.numpy(),
    )


def _affine(streams: RandomStreams) -> Tensor:
    """Sample rotation, scale and shear; (3, 3)."""
    generator = torch.zeros(3, 3)
    angle = streams.normal(3)[0].clamp(-2, 2) * math.radians(7)
    for n, (a, b) in enumerate(((0, 1), (0, 2), (1, 2))):
        generator[a, b], generator[b, a] = angle[n], -angle[n]
    shear = streams.normal(3, 3)[0].clamp(-2, 2) * 0.03
    scale = streams.log_uniform(0.86, 1.16)[0] * streams.log_uniform(0.95, 1.05, 3)[0]
    matrix: Tensor = torch.linalg.matrix_exp(generator) @ (torch.eye(3) + shear) @ torch.diag(scale)
    return matrix


def _sampling_grid(streams: RandomStreams, frame: SyntheticFrame) -> Tensor:
    """Return sampling coordinates for `grid_sample`; (1, I, J, K, 3)."""
    positions_mm = torch.einsum("ab,nbijk->naijk", _affine(streams), frame.grid_mm())
    strength = streams.uniform(0.0, 3.0)
    warp_mm = strength * noise(streams, frame, streams.uniform(30, 70), low=30, channels=3)
    positions_mm = positions_mm + warp_mm
    half = torch.tensor([max(1, n - 1) / 2 for n in frame.shape]) * frame.spacing
    return (positions_mm / half[None, :, None, None, None]).permute(0, 2, 3, 4, 1).flip(-1)


def _sample(volume: Tensor, coordinates: Tensor, mode: str = "bilinear") -> Tensor:
    return functional.grid_sample(volume, coordinates, mode=mode, align_corners=True)


def _imaged(
    streams: RandomStreams, frame: SyntheticFrame, channels: Tensor, brain: Tensor
) -> Tensor:
    """Apply contrast curves and simulated acquisition to z-scores (1, 4, ...); (4, I, J, K)."""
    intensities = torch.stack([_intensities(volume, brain[0, 0]) for volume in channels[0]])[None]
    curved = _with_curves(streams, intensities) * brain
    return acquire(streams, frame, curved, brain.float(), _MILD_DAMAGE)[0]


def _scaled_like(before: Tensor, after: Tensor, inside: Tensor) -> Tensor:
    """Restore the mean and deviation of (4, N) z-scores; (4, I, J, K)."""
    new = after[:, inside]
    scale = before.std(1) / new.std(1).clamp_min(1e-4)
    shift = before.mean(1) - new.mean(1) * scale
    values = after * scale[:, None, None, None] + shift[:, None, None, None]
    out: Tensor = values.clamp(-Z_LIMIT, Z_LIMIT) * inside
    return out


def _intensities(volume: Tensor, inside: Tensor) -> Tensor:
    """Map z-scores to intensities from 0 to about 1."""
    sample = volume[inside][::7]
    low, high = torch.quantile(sample, torch.tensor([_BLACK, _WHITE])).tolist()
    intensities: Tensor = ((volume - low) / max(high - low, 1e-3)).clamp(0, 1.6)
    return intensities


def _with_curves(streams: RandomStreams, intensities: Tensor) -> Tensor:
    """Apply a random increasing curve to each sequence, mostly mild; (1, 4, I, J, K)."""
    steps = streams.log_uniform(0.45, 2.2, SEQUENCES, _KNOTS)[0]
    mild = streams.uniform(0.0, 1.0, SEQUENCES, 1)[0]
    steps = mild * steps / steps.mean(1, keepdim=True) + (1 - mild)
    knots = torch.cat([torch.zeros(SEQUENCES, 1), steps.cumsum(1)], 1) / _KNOTS
    position = intensities[0].clamp(0, 1) * _KNOTS
    below = position.floor().clamp(max=_KNOTS - 1)
    lower_knot, fraction = below.long().flatten(1), (position - below).flatten(1)
    low, high = knots.gather(1, lower_knot), knots.gather(1, lower_knot + 1)
    curved = low + fraction * (high - low)
    out: Tensor = curved.view(intensities.shape) + (intensities - 1).clamp_min(0)
    return out
