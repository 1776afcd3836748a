"""The shipped anatomies: twenty individuals and one population average.

The individuals are label maps of whole heads, the average is made of the ICBM 152 tissue maps
(see NOTICE); neither contains a person's image. All are in RAS+ mm relative to the brain's centre.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training.synth import classes

AVERAGE = 0
INDIVIDUALS = tuple(range(1, 21))
TISSUES = 5
MASK, CEREBELLUM, SINUS = 5, 6, 7
"""Channels of `Atlas.maps` after the five tissues of `Anatomy.tissue`."""
_MARGIN_MM = 12  # margin around the brain
_STREAM = 977  # separates the choice of an anatomy from other random numbers of a seed


class Atlas(NamedTuple):
    """Tissue maps of one anatomy, at about the spacing of the synthetic volumes."""

    maps: Tensor
    """(8, I, J, K) float32 0-1: cortex, white, outer CSF, ventricle, deep grey, mask, cerebellum,
    venous sinus."""
    to_voxel: Tensor
    """(3, 4) atlas mm to voxels."""


class Sites(NamedTuple):
    """Possible positions of tumours in an anatomy."""

    position_mm: Tensor
    """(N, 3) atlas mm."""
    cumulative_probability: Tensor
    """(N,) float64, cumulative probability."""


def choose(seeds: Sequence[int], individuals: float) -> list[int]:
    """Choose an anatomy for each seed: one of the individuals, or the average.

    Parameters
    ----------
    seeds : sequence of int
        One per volume.
    individuals : float
        Share of volumes based on an individual.
    """
    chosen = []
    for seed in seeds:
        rng = np.random.default_rng((int(seed), _STREAM))
        is_individual = rng.uniform() < individuals
        chosen.append(int(rng.choice(INDIVIDUALS)) if is_individual else AVERAGE)
    return chosen


def load_labels(head: int) -> tuple[Tensor, Tensor]:
    """Read one head: classes (I, J, K) uint8, and the affine (4, 4) float32 to atlas mm."""
    name = f"head_{head:02d}"
    with np.load(Path(__file__).with_name("anatomies.npz")) as stored:
        labels, affine = stored[f"{name}.labels"], stored[f"{name}.affine"]
    return torch.from_numpy(labels), torch.from_numpy(affine)


@cache
def _brain_labels(head: int) -> tuple[Tensor, Tensor]:
    """Return `load_labels` cropped to the brain and a margin."""
    labels, affine = load_labels(head)
    brain_voxels = ((labels > 0) & (labels < classes.OUTER_FLUID)).nonzero()
    low = (brain_voxels.amin(0) - _MARGIN_MM).clamp_min(0)
    high = torch.minimum(brain_voxels.amax(0) + 1 + _MARGIN_MM, torch.tensor(labels.shape))
    cropped = labels[tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))]
    cropped_affine = affine.clone()
    cropped_affine[:3, 3] += affine[:3, :3] @ low.float()
    return cropped.clone(), cropped_affine


def _table() -> Tensor:
    """Return the fraction of each channel of `Atlas.maps` in each class, (COUNT, 8)."""
    table = torch.zeros(classes.COUNT, 8)
    table[:, 2] = 1
    for name, fractions in classes.RECIPES.items():
        table[name, :TISSUES] = torch.tensor(fractions, dtype=torch.float32)
        table[name, MASK] = 1
    table[[classes.CEREBELLAR_CORTEX, classes.CEREBELLAR_WHITE], CEREBELLUM] = 1
    table[classes.SINUS, SINUS] = 1
    return table


def _pooled(head: int, factor: int) -> tuple[Tensor, Tensor]:
    """Average an individual over blocks of `factor` mm: maps 0-1 and their affine."""
    labels, affine = _brain_labels(head)
    table = _table()
    index = labels.flatten().to(torch.int32)
    maps = torch.stack([column.index_select(0, index) for column in table.unbind(1)])
    maps = maps.view(len(maps), *labels.shape)
    if factor > 1:
        maps = functional.avg_pool3d(maps, factor, ceil_mode=True, count_include_pad=False)
    maps[MASK] = _softened(maps[MASK], factor)
    pooled_affine = affine.clone()
    pooled_affine[:3, 3] += affine[:3, :3] @ torch.full((3,), (factor - 1) / 2)
    pooled_affine[:3, :3] *= factor
    return maps, pooled_affine


def _softened(mask: Tensor, factor: int) -> Tensor:
    """Blur a mask over about 6 mm, so that its threshold can be varied."""
    soft = functional.avg_pool3d(mask[None], 2, ceil_mode=True) if factor == 1 else mask[None]
    for _ in range(2 if factor <= 2 else 1):
        soft = functional.avg_pool3d(soft, 3, 1, 1)
    return functional.interpolate(soft[None], size=mask.shape, mode="trilinear")[0, 0]


@lru_cache(maxsize=4 * len(INDIVIDUALS))
def _cached_maps(head: int, factor: int) -> tuple[Tensor, Tensor]:
    maps, affine = _pooled(head, factor)
    return (maps * 255).round().to(torch.uint8), affine


@lru_cache(maxsize=1)
def _average() -> tuple[Tensor, Tensor]:
    """Load the average, which has no sinus: maps (8, I, J, K) uint8 and their affine."""
    with np.load(Path(__file__).with_name("tissues.npz")) as stored:
        maps = torch.from_numpy(stored["maps"])
        affine = torch.from_numpy(stored["affine"].astype(np.float32))
    inside = (maps[MASK] > 127).nonzero().float()
    centre = (inside.amin(0) + inside.amax(0)) / 2
    affine[:3, 3] = -affine[:3, :3] @ centre
    return torch.cat([maps, torch.zeros_like(maps[:1])]), affine


def load_atlas(head: int, spacing_mm: float, device: torch.device) -> Atlas:
    """Load an anatomy for volumes of a given spacing.

    Parameters
    ----------
    head : int
        `AVERAGE` or one of `INDIVIDUALS`.
    spacing_mm : float
        Individuals are averaged over voxels of about this edge, as scanners do.
    """
    factor = max(round(spacing_mm), 1)
    if device.type != "cpu":
        return _on_device(head, factor, device)
    return _atlas(head, factor, device)


@lru_cache(maxsize=64)
def _on_device(head: int, factor: int, device: torch.device) -> Atlas:
    return _atlas(head, factor, device)


def _atlas(head: int, factor: int, device: torch.device) -> Atlas:
    if head == AVERAGE:
        maps, affine = _average()
    else:
        maps, affine = _pooled(head, 1) if factor == 1 else _cached_maps(head, factor)
    if maps.dtype is torch.uint8:
        maps = maps.to(device).float() / 255
    return Atlas(maps.to(device), torch.linalg.inv(affine)[:3].to(device))


@lru_cache(maxsize=1 + len(INDIVIDUALS))
def sites_of(head: int) -> Sites:
    """Return every second voxel in which a tumour may start, with its probability."""
    if head == AVERAGE:
        maps, affine = _average()
        cortex, white, _, ventricle, deep, mask, cerebellum, _ = maps.float() / 255
        weight = white + 0.5 * cortex + 0.5 * deep + 0.15 * ventricle
        weight = weight * (1 - 0.75 * cerebellum) * (mask > 0.5)
        voxels, step = (weight > 0.12).nonzero(), 1
    else:
        labels, affine = _brain_labels(head)
        step = 2
        table = torch.zeros(classes.COUNT)
        table[list(classes.SITE_WEIGHTS)] = torch.tensor(list(classes.SITE_WEIGHTS.values()))
        weight = table[labels[::step, ::step, ::step].to(torch.int32)]
        voxels = weight.nonzero()
    cumulative = weight[tuple(voxels.T)].double().cumsum(0)
    position_mm = (voxels * step).float() @ affine[:3, :3].T + affine[:3, 3]
    return Sites(position_mm, cumulative / cumulative[-1])


@lru_cache(maxsize=1 + len(INDIVIDUALS))
def surface_of(head: int) -> Sites:
    """Return every second voxel of the brain's outermost 2 mm, all equally likely."""
    if head == AVERAGE:
        maps, affine = _average()
        inside, step = maps[MASK] > 127, 1
    else:
        labels, affine = _brain_labels(head)
        inside, step = ((labels > 0) & (labels < classes.OUTER_FLUID))[::2, ::2, ::2], 2
    outside = functional.max_pool3d((~inside)[None].float(), 3, 1, 1)[0] > 0
    voxels = (inside & outside).nonzero()
    position_mm = (voxels * step).float() @ affine[:3, :3].T + affine[:3, 3]
    return Sites(position_mm, torch.arange(1, len(voxels) + 1, dtype=torch.float64) / len(voxels))
