"""Volumes for training, on the device where they are used, and batches of them.

`Mixture` draws each batch from one source: `SyntheticVolumes`, generated on the device itself,
`StoredVolumes` of real cases, or a `Blend` of both. No volume is copied, and no process waits for
another.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lesionlens.base.storage import write_atomically
from lesionlens.training.losses import Batch
from training.synth.generator import GeneratorConfig, generate_geometry, paint

SUFFIX = ".npz"
FIRST_VALIDATION_SEED = 2_000_000_000
"""First seed of the patients that calibration examines."""
SAMPLE_SEED = 3_000_000_000
"""First seed of sample data."""
_FIRST_SEED, _SEEDS_PER_SESSION = 4_000_000_000, 1_000_000
_STRIDE = 8
_RECENT_SHARE = 0.6  # of the volumes in a batch that were generated last
_SHAPES = ((80, 96, 80), (88, 112, 88))
"""Grids of batches; the smallest that fits is used. Few, as cuDNN benchmarks each shape once."""

Box = tuple[slice, slice, slice]
Window = tuple[int, int, int]


def first_seed(run: int, session: int) -> int:
    """Return the first of the million seeds of one session of a run, outside the reserved ones."""
    return _FIRST_SEED + (run * 1_000_000 + session) * _SEEDS_PER_SESSION


@dataclass(frozen=True, slots=True)
class Presence:
    """Shares of volumes by the sequences that are used."""

    complete: float = 0.5
    """All four."""
    single: tuple[float, float, float, float] = (0.05, 0.08, 0.05, 0.08)
    """T1, T1c, T2 or FLAIR alone; the remainder gets a random subset."""
    without_t1: float = 0.0
    """Of the complete ones, those from which T1 is dropped."""
    without_t1c: float = 0.0
    """T1, T2 and FLAIR."""


def sample_presence(rng: np.random.Generator, config: Presence) -> NDArray[np.bool_]:
    """Sample which of the four sequences are present, (4,) bool; at least one."""
    roll = rng.random() - config.complete
    if roll < 0:
        present = np.ones(4, dtype=bool)
        present[0] = config.without_t1 == 0 or rng.random() >= config.without_t1
        return present
    for sequence, fraction in enumerate(config.single):
        if roll < fraction:
            return np.asarray(np.arange(4) == sequence)
        roll -= fraction
    if roll < config.without_t1c:
        return np.array([True, False, True, True])
    subset = np.zeros(4, dtype=bool)
    subset[rng.choice(4, size=int(rng.integers(1, 4)), replace=False)] = True
    return subset


@dataclass(frozen=True, slots=True)
class Piece:
    """One volume cropped to its brain, or a window of it."""

    channels: Tensor
    """(4, I, J, K) float16 z-scores."""
    code: Tensor
    """(I, J, K) uint8: 0 outside, 1 brain, 2 WT, 3 TC, 4 ET."""
    instances: Tensor
    """(I, J, K) uint8, as in `Batch`."""
    present: NDArray[np.bool_] = field(default_factory=lambda: np.ones(4, dtype=bool))
    """(4,): available sequences; a synthetic volume has all."""
    bounds: NDArray[np.float32] = field(default_factory=lambda: np.array([[-1, 1]] * 3, np.float32))
    """(3, 2), as in `Batch`."""

    def part(self, box: Box, bounds: NDArray[np.float32] | None = None) -> Piece:
        """Return a box of it, copied so that the whole volume is released."""
        return Piece(
            self.channels[(slice(None), *box)].clone(),
            self.code[box].clone(),
            self.instances[box].clone(),
            self.present,
            self.bounds if bounds is None else bounds,
        )


def write(piece: Piece, file: Path) -> None:
    """Write a whole volume in the format of `read`."""
    buffer = io.BytesIO()
    arrays = {n: getattr(piece, n).numpy() for n in ("channels", "code", "instances")}
    np.savez(buffer, present=piece.present, **arrays)
    write_atomically(file, buffer.getvalue())


def read(file: Path, device: str | torch.device = "cpu") -> Piece:
    """Read a stored volume."""
    with np.load(file, allow_pickle=False) as stored:
        channels, code, instances = (
            torch.from_numpy(stored[name]).to(device) for name in ("channels", "code", "instances")
        )
        return Piece(channels, code, instances, stored["present"])


def brain_box(code: Tensor) -> Box:
    """Return the bounding box of the brain."""
    box = []
    for axis in range(3):
        occupied = (code > 0).amax([a for a in range(3) if a != axis]).nonzero()[:, 0]
        box.append(slice(int(occupied[0]), int(occupied[-1]) + 1))
    return box[0], box[1], box[2]


def _random_window(piece: Piece, window: Window, rng: np.random.Generator) -> Piece:
    """Return a random window; four of five contain a lesion, if there is one."""
    code, instances = piece.code.cpu().numpy(), piece.instances.cpu().numpy()
    lesions = np.unique(instances[code > 1])
    if len(lesions) and rng.random() < 0.8:
        candidates = np.argwhere((instances == rng.choice(lesions)) & (code > 1))
    else:
        candidates = np.argwhere(code > 0)
    centre = candidates[rng.integers(len(candidates))] + rng.normal(0, 6, 3)
    box: list[slice] = []
    for size, length, position in zip(code.shape, window, centre, strict=True):
        start = int(np.clip(round(position - length / 2), 0, max(0, size - length)))
        box.append(slice(start, start + min(length, size)))
    edges = np.array([[s.start / n, s.stop / n] for s, n in zip(box, code.shape, strict=True)])
    return piece.part((box[0], box[1], box[2]), (2 * edges - 1).astype(np.float32))


class Source(Protocol):
    """Where volumes come from."""

    def pieces(self, size: int, rng: np.random.Generator) -> list[Piece]:
        """Return `size` volumes."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Grid of synthetic volumes, and how many are generated at a time."""

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float]
    geometries: int
    paintings: int = 2
    window: Window | None = None
    windows: int = 2


WHOLE = Grid((88, 108, 86), (1.95, 2.3), 6)
FINE = Grid((132, 164, 132), (1.2, 1.4), 3, window=(88, 88, 88))


class SyntheticVolumes:
    """Volumes generated on the device, each used about twice."""

    def __init__(
        self, config: GeneratorConfig, grid: Grid, seed: int, device: torch.device
    ) -> None:
        self._config = replace(config, shape=grid.shape, spacing_mm=grid.spacing_mm)
        self._grid, self._seed, self._device = grid, seed, device
        self._pool: list[Piece] = []
        self._newest, self._remaining = 0, 0

    def pieces(self, size: int, rng: np.random.Generator) -> list[Piece]:
        """Return `size` volumes, mostly of those generated last."""
        if self._remaining < size:
            self._generate(rng)
        self._remaining -= size
        selected = []
        for _ in range(size):
            pool = self._pool[-self._newest :] if rng.random() < _RECENT_SHARE else self._pool
            selected.append(pool[int(rng.integers(len(pool)))])
        return selected

    @torch.no_grad()
    def _generate(self, rng: np.random.Generator) -> None:
        grid, new = self._grid, []
        seeds = list(range(self._seed, self._seed + grid.geometries))
        self._seed += grid.geometries
        geometry = generate_geometry(self._config, seeds, str(self._device))
        for round_ in range(grid.paintings):
            batch = paint(self._config, geometry, seeds, round_)
            code = batch.brain.to(torch.uint8)
            code = code + batch.labels.sum(1, dtype=torch.uint8) * code
            for item in np.flatnonzero(batch.brain.flatten(1).any(1).cpu().numpy()):
                piece = Piece(batch.zscored[item].half(), code[item], batch.instances[item])
                piece = piece.part(brain_box(piece.code))
                if grid.window is None:
                    new.append(piece)
                else:
                    new += [_random_window(piece, grid.window, rng) for _ in range(grid.windows)]
        self._newest = len(new)
        self._remaining += 2 * self._newest
        self._pool = [*self._pool[-9 * self._newest :], *new]


class StoredVolumes:
    """Augmented volumes of real cases, read from files."""

    def __init__(self, folder: Path, cases: Sequence[str], device: torch.device) -> None:
        self._files = [sorted((folder / case).glob(f"*{SUFFIX}")) for case in cases]
        if missing := [c for c, files in zip(cases, self._files, strict=True) if not files]:
            raise FileNotFoundError(f"no augmented volumes of {', '.join(missing)}")
        self._device = device

    def pieces(self, size: int, rng: np.random.Generator) -> list[Piece]:
        """Return volumes of random cases."""
        selected = []
        for _ in range(size):
            files = self._files[int(rng.integers(len(self._files)))]
            selected.append(read(files[int(rng.integers(len(files)))], self._device))
        return selected


class Blend:
    """Volumes of one source, with a share of another's among them."""

    def __init__(self, first: Source, second: Source, share: float) -> None:
        self._sources, self._share = (first, second), share

    def pieces(self, size: int, rng: np.random.Generator) -> list[Piece]:
        """Return `size` volumes of both sources."""
        second_count = int(rng.binomial(size, self._share))
        counts = (size - second_count, second_count)
        groups = [s.pieces(n, rng) for s, n in zip(self._sources, counts, strict=True) if n]
        return [piece for group in groups for piece in group]


class Mixture:
    """Batches of one source each, chosen at random with given shares."""

    def __init__(
        self, sources: Sequence[Source], shares: Sequence[float], seed: int, config: Presence
    ) -> None:
        self._sources, self._shares, self._config = list(sources), list(shares), config
        self._rng = np.random.default_rng(seed)

    def batch(self, size: int) -> Batch:
        """Return the next batch."""
        source = self._sources[int(self._rng.choice(len(self._sources), p=self._shares))]
        return collate(source.pieces(size, self._rng), self._rng, self._config)


def collate(pieces: Sequence[Piece], rng: np.random.Generator, config: Presence) -> Batch:
    """Pad to a common grid and augment: mirror, gain, offset, dropped sequences."""
    device = pieces[0].code.device
    shape = _grid_for(np.array([p.code.shape for p in pieces]).max(0))
    channels = torch.zeros(len(pieces), 4, *shape, device=device)
    code, parts = torch.zeros(2, len(pieces), *shape, dtype=torch.uint8, device=device)
    bounds = np.zeros((len(pieces), 3, 2), np.float32)
    presence = np.stack([_used_sequences(p.present, rng, config) for p in pieces])
    for item, piece in enumerate(pieces):
        start, bounds[item] = _random_position(piece.code.shape, piece.bounds, shape, rng)
        i, j, k = (slice(a, a + m) for a, m in zip(start, piece.code.shape, strict=True))
        factors = rng.uniform(0.88, 1.12, (4, 1, 1, 1)), rng.uniform(-0.12, 0.12, (4, 1, 1, 1))
        gain, offset = torch.from_numpy(np.array(factors, np.float32)).to(device)
        channels[item, :, i, j, k] = (piece.channels.float() * gain + offset) * (piece.code > 0)
        code[item, i, j, k], parts[item, i, j, k] = piece.code, piece.instances
        if rng.random() < 0.5:
            bounds[item, 0] = -bounds[item, 0, ::-1]
            for array in (channels[item], code[item], parts[item]):
                array.copy_(array.flip(-3))
    present = torch.from_numpy(presence).to(device)
    channels *= present[:, :, None, None, None]
    labels = torch.stack([code > level for level in (1, 2, 3)], 1).to(torch.uint8)
    return Batch(channels, present, code > 0, labels, parts, torch.from_numpy(bounds).to(device))


def _used_sequences(
    present: NDArray[np.bool_], rng: np.random.Generator, config: Presence
) -> NDArray[np.bool_]:
    used = sample_presence(rng, config) & present
    return used if used.any() else present


def _random_position(
    size: Sequence[int], bounds: NDArray[np.float32], grid: Sequence[int], rng: np.random.Generator
) -> tuple[list[int], NDArray[np.float32]]:
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


def _grid_for(sizes: NDArray[np.int_]) -> tuple[int, int, int]:
    for shape in _SHAPES:
        if (sizes <= shape).all() and sizes.max() > shape[0] // 2:
            return shape
    i, j, k = (-sizes // _STRIDE * -_STRIDE).tolist()
    return i, j, k
