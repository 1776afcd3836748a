"""Crops around prompts as input of the prompt network, and the way back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lesionlens.base.geometry import Box, Floats, Mask, clipped_box
from lesionlens.network.prompt.distances import distances_to
from lesionlens.network.prompt.model import FACTS, MAPS, PromptInput

SHARP_MM, WIDE_MM = 1.5, 6.0
_AMPLITUDE = 4.0
_LARGEST_DIFFERENCE = 4.0


@dataclass(frozen=True, slots=True, eq=False)
class Crop:
    """A cubic crop within a volume."""

    centre: NDArray[np.float64]
    """(3,) centre of the crop, in voxels of the volume."""
    step: NDArray[np.float64]
    """(3, 3): one crop voxel along each axis, in voxels of the volume."""
    size: int
    """Voxels along each edge."""

    @classmethod
    def straight(cls, centre: NDArray[np.float64], spacing: float, size: int) -> Crop:
        """Create a crop aligned with the volume's axes."""
        return cls(np.asarray(centre, float), spacing * np.eye(3), size)

    def inside(self, points: NDArray[np.generic]) -> NDArray[np.int64]:
        """Map (N, 3) voxels of the volume to crop voxels, rounded; those outside are dropped."""
        offset = (np.asarray(points, float).reshape(-1, 3) - self.centre) @ np.linalg.inv(
            self.step
        ).T
        index = np.rint(offset + (self.size - 1) / 2).astype(np.int64)
        return index[((index >= 0) & (index < self.size)).all(1)]


def sample(volume: NDArray[np.generic], crop: Crop, *, nearest: bool = False) -> Tensor:
    """Sample (C, I, J, K) on a crop: (C, n, n, n) float32, zero outside the volume."""
    half = (crop.size - 1) / 2
    reach = np.abs(crop.step).sum(1) * half
    shape = np.array(volume.shape[1:])
    low = np.clip(np.floor(crop.centre - reach).astype(int) - 1, 0, shape - 2)
    high = np.clip(np.ceil(crop.centre + reach).astype(int) + 2, low + 2, shape)
    i, j, k = (slice(a, b) for a, b in zip(low, high, strict=True))
    part = torch.from_numpy(np.ascontiguousarray(volume[:, i, j, k], dtype=np.float32))
    if not nearest and np.array_equal(crop.step, np.diag(np.diag(crop.step))):
        edges = np.arange(crop.size) - half
        positions = crop.centre - low + edges[:, None] * np.diag(crop.step)
        return torch.from_numpy(_along_axes(part.numpy(), positions.T))
    unit = 2 / (high - low - 1)
    transform = np.concatenate(
        [crop.step * half * unit[:, None], ((crop.centre - low) * unit - 1)[:, None]], 1
    )
    theta = torch.from_numpy(transform[::-1, [2, 1, 0, 3]].astype(np.float32).copy())[None]
    n = crop.size
    grid = functional.affine_grid(theta, [1, 1, n, n, n], align_corners=True)
    mode = "nearest" if nearest else "bilinear"
    return functional.grid_sample(part[None], grid, mode=mode, align_corners=True)[0]


def _along_axes(values: Floats, positions: Iterable[NDArray[np.floating]]) -> Floats:
    """Interpolate (C, I, J, K) at coordinates along each axis; zero outside. Single-threaded."""
    for axis, position in enumerate(positions, 1):
        length = values.shape[axis]
        low = np.floor(position).astype(int)
        parts = []
        for index, weight in ((low, low + 1 - position), (low + 1, position - low)):
            weights = np.where((index >= 0) & (index < length), weight, 0).astype(np.float32)
            corner_values = values.take(np.clip(index, 0, length - 1), axis)
            corner_values *= np.expand_dims(weights, tuple(range(1, 4 - axis)))
            parts.append(corner_values)
        values, upper_values = parts
        values += upper_values
    return values


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """Content of a crop, independent of the prompts."""

    images: Tensor
    """(4, n, n, n) z-scores, zero for absent sequences."""
    brain: Tensor
    """(1, n, n, n) 0 or 1."""
    present: tuple[bool, ...]
    """(4,)."""
    probability: Tensor | None
    """(3, n, n, n) predicted probability of WT, TC and ET; None without an analysis."""
    spacing_mm: float


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """The prompts in a crop."""

    foreground: Mask
    """(n, n, n): foreground voxels."""
    background: Mask
    """(n, n, n): background voxels."""
    outline: Mask | None
    """(n, n, n): the current outline; None to begin without one."""
    region: int | None
    """Index of the intended region (WT, TC, ET); None for the object at the prompts."""


def gaussians(marked: Mask, spacing_mm: float) -> Floats:
    """Return a sharp and a wide Gaussian around marked voxels; (2, n, n, n), at most one."""
    if not marked.any():
        return np.zeros((2, *marked.shape), np.float32)
    voxels = distances_to(np.argwhere(marked), marked.shape)
    distance_mm = voxels.astype(np.float32) * np.float32(spacing_mm)
    sharp = max(SHARP_MM, 0.9 * spacing_mm)
    return np.stack([np.exp(-(distance_mm**2) / np.float32(2 * mm**2)) for mm in (sharp, WIDE_MM)])


def _unlike(images: Tensor, sharp: Tensor, brain: Tensor) -> Tensor:
    """Return each sequence's difference from its value at the prompts; (4, n, n, n), -1 to 1."""
    weight = sharp * brain[0]
    total = weight.sum()
    if float(total) < 1e-3:
        return torch.zeros_like(images)
    reference = (images * weight).sum((1, 2, 3)) / total
    difference = (images - reference[:, None, None, None]) * brain
    return difference.clamp(-_LARGEST_DIFFERENCE, _LARGEST_DIFFERENCE) / 2


def network_input(scene: Scene, question: Question) -> PromptInput:
    """Build the network input of one crop, B = 1."""
    n = scene.images.shape[-1]
    maps = torch.zeros(MAPS, n, n, n, dtype=torch.float32, device="cpu")
    facts = torch.zeros(FACTS, dtype=torch.float32, device="cpu")
    facts[:4] = torch.tensor(scene.present, dtype=torch.float32, device="cpu")
    present = facts[:4, None, None, None]
    maps[0:4] = scene.images
    if question.region is not None:
        facts[4 + question.region] = 1
    if scene.probability is not None:
        facts[7] = 1
        maps[4:7] = (2 * scene.probability - 1) * scene.brain
        if question.region is not None:
            maps[7] = 2 * scene.probability[question.region] - 1
    if question.outline is not None:
        facts[8] = 1
        maps[8] = 2 * torch.from_numpy(question.outline).float() - 1
    for index, marked in enumerate((question.foreground, question.background)):
        prompt_maps = torch.from_numpy(gaussians(marked, scene.spacing_mm))
        maps[9 + 2 * index : 11 + 2 * index] = _AMPLITUDE * prompt_maps
        maps[13 + 4 * index : 17 + 4 * index] = (
            _unlike(scene.images, prompt_maps[0], scene.brain) * present
        )
    facts[9] = float(question.background.any())
    facts[10] = float(np.log(scene.spacing_mm))
    maps[21] = scene.brain[0]
    return PromptInput(maps[None], facts[None])


def paste(values: Tensor, crop: Crop, shape: tuple[int, ...]) -> tuple[Box, Floats]:
    """Paste (n, n, n) values of an axis-aligned crop into a volume of this shape.

    Returns
    -------
    box, values
        The covered box of the volume, and the linearly interpolated values there.
    """
    spacing = float(crop.step[0, 0])
    half = spacing * (crop.size - 1) / 2
    first, last = np.ceil(crop.centre - half), np.floor(crop.centre + half)
    box = clipped_box(first, np.maximum(last, first - 1), shape)
    positions = [
        (np.arange(side.start, side.stop) - centre) / spacing + (crop.size - 1) / 2
        for side, centre in zip(box, crop.centre, strict=True)
    ]
    return box, _along_axes(values.float().numpy()[None], positions)[0]
