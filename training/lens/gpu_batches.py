"""Training batches generated and assembled on a GPU, for `gpu_training.py`.

Volumes stay on the device from the generator to the step: none is copied, and no process waits for
another. No seed of a validation volume or of the sample is used (`training.lens.volumes`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lesionlens.training.losses import Batch
from training.lens.volumes import SUFFIX, Packed, Presence, collate, padded_shape, read, window_in
from training.synth.generator import GeneratorConfig, generate_geometry, paint

_STRIDE = 8
_RECENT_SHARE = 0.6  # of the volumes in a batch that were generated last
_SHAPES = ((80, 96, 80), (88, 112, 88))
"""Grids of batches; the smallest that fits is used. Few, as cuDNN benchmarks each shape once."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One volume or window on the device; fields as in `training.lens.volumes.Packed`."""

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
    """Grid of synthetic volumes, and how many are generated at a time."""

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float]
    geometries: int
    paintings: int = 2
    window: tuple[int, int, int] | None = None
    windows: int = 2


WHOLE = Grid((88, 108, 86), (1.95, 2.3), 6)
FINE = Grid((132, 164, 132), (1.2, 1.4), 3, window=(88, 88, 88))


class SyntheticVolumes:
    """Volumes generated on the device, each used about `repeats` times."""

    def __init__(
        self,
        draw: GeneratorConfig,
        grid: Grid,
        seed: int,
        device: torch.device,
        repeats: float = 2.0,
    ) -> None:
        self._draw = replace(draw, shape=grid.shape, spacing_mm=grid.spacing_mm)
        self._grid, self._seed, self._device, self._repeats = grid, seed, device, repeats
        self._pool: list[Piece] = []
        self._newest, self._remaining, self.generated = 0, 0.0, 0

    def pieces(self, size: int, rng: np.random.Generator) -> list[Piece]:
        """Return `size` volumes, mostly of those generated last."""
        if self._remaining < size:
            self.generate(rng)
        self._remaining -= size
        selected = []
        for _ in range(size):
            pool = self._pool[-self._newest :] if rng.random() < _RECENT_SHARE else self._pool
            selected.append(pool[int(rng.integers(len(pool)))])
        return selected

    @torch.no_grad()
    def generate(self, rng: np.random.Generator) -> list[Piece]:
        """Generate further volumes, and return them."""
        grid, previous_count = self._grid, self.generated
        seeds = list(range(self._seed, self._seed + grid.geometries))
        self._seed += grid.geometries
        geometry = generate_geometry(self._draw, seeds, str(self._device))
        for round_ in range(grid.paintings):
            batch = paint(self._draw, geometry, seeds, round_)
            code = batch.brain.to(torch.uint8)
            code = code + batch.labels.sum(1, dtype=torch.uint8) * code
            for item in range(len(seeds)):
                self._keep(batch.zscored[item], code[item], batch.instances[item], rng)
        self._newest = self.generated - previous_count
        self._remaining += self._repeats * self._newest
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
            self._pool.append(piece if window is None else _random_window(piece, window, rng))
            self.generated += 1


def _box(code: Tensor) -> tuple[slice, slice, slice]:
    inside = code > 0
    box = []
    for axis in range(3):
        occupied = inside.amax([a for a in range(3) if a != axis]).nonzero()[:, 0]
        box.append(slice(int(occupied[0]), int(occupied[-1]) + 1))
    return box[0], box[1], box[2]


def _random_window(volume: Piece, window: tuple[int, int, int], rng: np.random.Generator) -> Piece:
    arrays = volume.code.cpu().numpy(), volume.instances.cpu().numpy()
    box, bounds = window_in(*arrays, window, rng)
    return Piece(
        volume.channels[(slice(None), *box)].clone(),
        volume.code[box].clone(),
        volume.instances[box].clone(),
        volume.present,
        bounds,
    )


class StoredVolumes:
    """Augmented volumes of real cases, read from files."""

    def __init__(self, folder: Path, cases: Sequence[str], device: torch.device) -> None:
        self._files = {
            c: files for c in cases if (files := sorted((folder / c).glob(f"*{SUFFIX}")))
        }
        missing = sorted(set(cases) - set(self._files))
        if missing:
            raise FileNotFoundError(f"no augmented volumes of {', '.join(missing)}")
        self._device = device

    def pieces(self, size: int, rng: np.random.Generator) -> list[Piece]:
        """Return volumes of random cases."""
        names, selected = list(self._files), []
        for _ in range(size):
            files = self._files[names[int(rng.integers(len(names)))]]
            packed = read(files[int(rng.integers(len(files)))])
            selected.append(piece_of(packed, self._device))
        return selected


def collate_pieces(pieces: Sequence[Piece], rng: np.random.Generator, config: Presence) -> Batch:
    """Collate pieces on their device into a batch, with their positions in the brain."""
    shape = _grid_for(np.array([p.code.shape for p in pieces]).max(0))
    return collate(pieces, rng, config, shape, _random_position)  # type: ignore[arg-type]  # tensors, too


def _random_position(
    size: Sequence[int], bounds: np.ndarray, grid: Sequence[int], rng: np.random.Generator
) -> tuple[list[int], np.ndarray]:
    """Return the start of a piece in a grid, and the position range of the grid in the brain.

    As if the piece had been padded to the next multiple of the stride, as for a prediction, and
    then to the grid, with the position range of the piece assigned to the padded block.
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
    """Batches of one source each, chosen at random with given shares."""

    def __init__(
        self,
        sources: Sequence[SyntheticVolumes | StoredVolumes | Blend],
        shares: Sequence[float],
        seed: int,
        config: Presence,
    ) -> None:
        self._sources, self._shares, self._config = list(sources), list(shares), config
        self._rng = np.random.default_rng(seed)

    def batch(self, size: int) -> Batch:
        """Return the next batch."""
        source = self._sources[int(self._rng.choice(len(self._sources), p=self._shares))]
        return collate_pieces(source.pieces(size, self._rng), self._rng, self._config)


class Blend:
    """Volumes of one source, with a share of another's among them."""

    def __init__(
        self,
        first: SyntheticVolumes | StoredVolumes,
        second: SyntheticVolumes | StoredVolumes,
        share: float,
    ) -> None:
        self._sources, self._share = (first, second), share

    def pieces(self, size: int, rng: np.random.Generator) -> list[Piece]:
        """Return `size` volumes of both sources."""
        second_count = int(rng.binomial(size, self._share))
        counts = (size - second_count, second_count)
        groups = [s.pieces(n, rng) for s, n in zip(self._sources, counts, strict=True) if n]
        return [piece for group in groups for piece in group]
