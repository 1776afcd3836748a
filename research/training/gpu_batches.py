"""Training batches that a GPU generates and assembles by itself, for `training/gpu_training.py`.

Volumes stay on the device from the generator to the step: none is copied, and no process waits for
another. The seeds are those of `training.data`, so that no validation volume or sample is used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from lesionlens.network.synth import anatomy, atlas
from lesionlens.network.synth.fields import RandomStreams
from lesionlens.network.synth.generator import GeneratorConfig, generate_geometry, paint
from lesionlens.training.config import DataConfig
from lesionlens.training.data import Batch, Packed, collate, padded_shape, window_in
from lesionlens.training.stored_volumes import read

_STRIDE = 8
_RECENT = 0.6  # of what is shown belongs to what was drawn last
_MANY = 200_000  # numbers of one volume that the device draws by itself
_SHAPES = ((80, 96, 80), (88, 112, 88))
"""Grids of batches, the smallest that holds its volumes: cuDNN measures each shape once."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One volume or window on the device; fields as in `training.data.Packed`."""

    channels: Tensor
    code: Tensor
    instances: Tensor
    present: np.ndarray
    position_range: np.ndarray


def piece_of(packed: Packed, device: torch.device) -> Piece:
    """Copy a packed volume to a device."""
    channels, code, instances = (
        torch.from_numpy(a).to(device) for a in (packed.channels, packed.code, packed.instances)
    )
    return Piece(channels, code, instances, packed.present, packed.position_range)


@dataclass(frozen=True, slots=True)
class Grid:
    """Volumes of one kind, and how many of them are drawn at a time."""

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float]
    geometries: int
    paintings: int = 2
    window: tuple[int, int, int] | None = None
    windows: int = 2


WHOLE = Grid((88, 108, 86), (1.95, 2.3), 6)
FINE = Grid((132, 164, 132), (1.2, 1.4), 3, window=(88, 88, 88))


def draw_by_device() -> None:
    """Load each anatomy once for each grid, and draw grain where it is needed."""
    load = lru_cache(maxsize=64)(atlas.load_atlas)

    def load_rounded(head: int, spacing_mm: float, device: torch.device) -> atlas.Atlas:
        return load(head, float(max(round(spacing_mm), 1)), device)

    patch.object(anatomy, "load_atlas", load_rounded).start()
    draw_on_cpu = RandomStreams.normal

    def normal(streams: RandomStreams, *shape: int) -> Tensor:
        if math.prod(shape) < _MANY or streams.device.type == "cpu":
            return draw_on_cpu(streams, *shape)
        return torch.randn(len(streams), *shape, device=streams.device)

    patch.object(RandomStreams, "normal", normal).start()


class Drawn:
    """Volumes drawn on the device, each shown about `shows` times."""

    def __init__(
        self, draw: GeneratorConfig, grid: Grid, seed: int, device: torch.device, shows: float = 2.0
    ) -> None:
        self._draw = replace(draw, shape=grid.shape, spacing_mm=grid.spacing_mm)
        self._grid, self._seed, self._device, self._shows = grid, seed, device, shows
        self._pool: list[Piece] = []
        self._newest, self._left, self.drawn = 0, 0.0, 0

    def pieces(self, size: int, rng: np.random.Generator) -> list[Piece]:
        """Return some, mostly of those drawn last."""
        if self._left < size:
            self.more(rng)
        self._left -= size
        selected = []
        for _ in range(size):
            pool = self._pool[-self._newest :] if rng.random() < _RECENT else self._pool
            selected.append(pool[int(rng.integers(len(pool)))])
        return selected

    @torch.no_grad()
    def more(self, rng: np.random.Generator) -> list[Piece]:
        """Draw further ones, and return them."""
        grid, previous_count = self._grid, self.drawn
        seeds = list(range(self._seed, self._seed + grid.geometries))
        self._seed += grid.geometries
        geometry = generate_geometry(self._draw, seeds, str(self._device))
        for round_ in range(grid.paintings):
            batch = paint(self._draw, geometry, seeds, round_)
            code = batch.brain.to(torch.uint8)
            code = code + batch.labels.sum(1, dtype=torch.uint8) * code
            for item in range(len(seeds)):
                self._keep(batch.zscored[item], code[item], batch.instances[item], rng)
        self._newest = self.drawn - previous_count
        self._left += self._shows * self._newest
        del self._pool[: max(0, len(self._pool) - 10 * self._newest)]
        return self._pool[-self._newest :]

    def _keep(
        self, channels: Tensor, code: Tensor, parts: Tensor, rng: np.random.Generator
    ) -> None:
        if not bool(code.any()):
            return
        box = _box(code)
        piece = Piece(
            channels[(slice(None), *box)].half(), code[box].contiguous(), parts[box].contiguous(),
            np.ones(4, bool), np.array([[-1, 1]] * 3, np.float32),
        )  # fmt: skip
        window = self._grid.window
        for _ in range(self._grid.windows if window else 1):
            self._pool.append(piece if window is None else _window(piece, window, rng))
            self.drawn += 1


def _box(code: Tensor) -> tuple[slice, slice, slice]:
    inside = code > 0
    box = []
    for axis in range(3):
        occupied = inside.amax([a for a in range(3) if a != axis]).nonzero()[:, 0]
        box.append(slice(int(occupied[0]), int(occupied[-1]) + 1))
    return box[0], box[1], box[2]


def _window(whole: Piece, window: tuple[int, int, int], rng: np.random.Generator) -> Piece:
    arrays = whole.code.cpu().numpy(), whole.instances.cpu().numpy()
    box, bounds = window_in(*arrays, window, rng)
    return Piece(
        whole.channels[(slice(None), *box)].clone(),
        whole.code[box].clone(),
        whole.instances[box].clone(),
        whole.present,
        bounds,
    )


class Kept:
    """Varied volumes of real cases in files, read when they are shown."""

    def __init__(self, folder: Path, cases: Sequence[str], device: torch.device) -> None:
        self._files = {c: files for c in cases if (files := sorted((folder / c).glob("*.kept")))}
        missing = sorted(set(cases) - set(self._files))
        if missing:
            raise FileNotFoundError(f"no varied volumes of {', '.join(missing)}")
        self._device, self.drawn = device, sum(map(len, self._files.values()))

    def pieces(self, size: int, rng: np.random.Generator) -> list[Piece]:
        """Return volumes of random cases."""
        names, selected = list(self._files), []
        for _ in range(size):
            files = self._files[names[int(rng.integers(len(names)))]]
            packed = read(files[int(rng.integers(len(files)))])
            selected.append(piece_of(packed, self._device))
        return selected


def collated(pieces: Sequence[Piece], rng: np.random.Generator, config: DataConfig) -> Batch:
    """Collate pieces on their device, in one of few grids, each of which knows its place."""
    shape = _grid_for(np.array([p.code.shape for p in pieces]).max(0))
    return collate(pieces, rng, config, shape, _placed)  # type: ignore[arg-type]  # tensors, too


def _placed(
    size: Sequence[int], bounds: np.ndarray, grid: Sequence[int], rng: np.random.Generator
) -> tuple[list[int], np.ndarray]:
    """Return where a piece begins in a grid, and where the grid lies in the brain.

    As if the piece had been padded to the next multiple of the stride, as for a prediction, and
    this block, which then has the piece's place, to the grid.
    """
    start, grid_bounds = [], []
    for grid_size, voxels, (low, high) in zip(grid, size, bounds, strict=True):
        block = -(-voxels // _STRIDE) * _STRIDE
        block_start = int(rng.integers(0, grid_size - block + 1))
        start.append(block_start + int(rng.integers(0, block - voxels + 1)))
        voxel = (high - low) / block
        grid_bounds.append((low - block_start * voxel, low + (grid_size - block_start) * voxel))
    return start, np.array(grid_bounds, np.float32)


def _grid_for(sizes: np.ndarray) -> tuple[int, int, int]:
    for shape in _SHAPES:
        if (sizes <= shape).all() and sizes.max() > shape[0] // 2:
            return shape
    return padded_shape(sizes)


class Mixture:
    """Batches of one source each, drawn with given shares."""

    def __init__(
        self,
        sources: Sequence[Drawn | Kept | Blend],
        shares: Sequence[float],
        seed: int,
        config: DataConfig,
    ) -> None:
        self.sources, self._shares, self._config = list(sources), list(shares), config
        self._rng = np.random.default_rng(seed)

    def batch(self, size: int) -> Batch:
        """Return the next batch."""
        source = self.sources[int(self._rng.choice(len(self.sources), p=self._shares))]
        return collated(source.pieces(size, self._rng), self._rng, self._config)


class Blend:
    """Volumes of one source, with a share of another's among them."""

    def __init__(self, first: Drawn | Kept, second: Drawn | Kept, share: float) -> None:
        self._sources, self._share = (first, second), share

    def pieces(self, size: int, rng: np.random.Generator) -> list[Piece]:
        """Return some of both."""
        second_count = int(rng.binomial(size, self._share))
        counts = (size - second_count, second_count)
        groups = [s.pieces(n, rng) for s, n in zip(self._sources, counts, strict=True) if n]
        return [piece for group in groups for piece in group]
