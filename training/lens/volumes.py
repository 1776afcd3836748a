"""Training volumes in compact form: generate, store, cut windows, collate to batches."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lesionlens.base.storage import write_atomically
from lesionlens.training.losses import Batch
from training.synth.generator import GeneratorConfig, generate_geometry, paint

SUFFIX = ".npz"
FIRST_STORED_SEED = 1_500_000_000
"""Seed of the first synthetic brain that is mixed with real ones."""
FIRST_VALIDATION_SEED = 2_000_000_000
"""First seed for validation, and (`SAMPLE_SEED`) for sample data."""
SAMPLE_SEED = 3_000_000_000
_SEEDS_AFTER_RESERVED = 4_000_000_000
_STRIDE = 8
_WHOLE_BRAIN = np.array([[-1, 1]] * 3, np.float32)
SEEDS_PER_SOURCE = 1_000_000
"""Number of seeds reserved for one source; those of two sources never overlap."""
_SEEDS_PER_RUN, _STAGES = 50_000_000, 16


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


def stage_seed(seed: int, session: int, stage: int) -> int:
    """Return the first seed of a stage's volumes, outside the reserved ranges.

    Parameters
    ----------
    session : int
        Number of the session, 0 for sources that continue where they stopped.
    stage : int
        Index of the stage, which has `SEEDS_PER_SOURCE` seeds for each of two sources.

    Examples
    --------
    >>> stage_seed(1, 0, 0), stage_seed(40, 0, 0)
    (50000000, 4500000000)
    """
    first = seed * _SEEDS_PER_RUN + (session * _STAGES + stage) * SEEDS_PER_SOURCE
    if first < FIRST_STORED_SEED - _STAGES * SEEDS_PER_SOURCE:
        return first
    return first - FIRST_STORED_SEED + _SEEDS_AFTER_RESERVED


Placement = Callable[
    [Sequence[int], NDArray[np.float32], Sequence[int], np.random.Generator],
    tuple[list[int], NDArray[np.float32]],
]
"""Maps size and position of a volume and a grid's shape to its start and the grid's position."""


@dataclass(frozen=True, slots=True)
class Packed:
    """One volume cropped to its brain, in compact form."""

    channels: NDArray[np.float16]
    """(4, I, J, K) z-scores."""
    code: NDArray[np.uint8]
    """(I, J, K): 0 outside, 1 brain, 2 WT, 3 TC, 4 ET."""
    instances: NDArray[np.uint8]
    """(I, J, K), as in `Batch`."""
    present: NDArray[np.bool_] = field(default_factory=lambda: np.ones(4, dtype=bool))
    """(4,): available sequences; a synthetic volume has all."""
    position_range: NDArray[np.float32] = field(default_factory=_WHOLE_BRAIN.copy)
    """(3, 2), as in `Batch`."""


def pack(channels: Tensor, labels: Tensor, parts: Tensor, brain: Tensor) -> Packed:
    """Crop (4, ...), (3, ...) and twice (I, J, K) to the brain and make them compact."""
    inside = brain.nonzero()
    low, high = inside.amin(0).tolist(), (inside.amax(0) + 1).tolist()
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    code = brain.to(torch.uint8) + labels.sum(0, dtype=torch.uint8) * brain
    cropped = channels[(slice(None), *box)].half().numpy()
    return Packed(cropped, code[box].numpy(), parts[box].numpy())


def draw_packed(config: GeneratorConfig, seed: int, paintings: int) -> Iterator[Packed]:
    """Generate one geometry with several contrasts."""
    geometry = generate_geometry(config, [seed])
    for painting in range(paintings):
        volume = paint(config, geometry, [seed], painting)
        if bool(volume.brain.any()):
            yield pack(volume.zscored[0], volume.labels[0], volume.instances[0], volume.brain[0])


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


def window_in(
    code: NDArray[np.uint8],
    instances: NDArray[np.uint8],
    window: tuple[int, int, int],
    rng: np.random.Generator,
) -> tuple[tuple[slice, slice, slice], NDArray[np.float32]]:
    """Sample a window; four of five contain a lesion, if there is one.

    Returns
    -------
    box : (3,) slice
        Voxels of the window.
    position_range : (3, 2) float32
        Its position, as in `Batch`.
    """
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
    edges = np.array(
        [[side.start / n, side.stop / n] for side, n in zip(box, code.shape, strict=True)]
    )
    return (box[0], box[1], box[2]), (2 * edges - 1).astype(np.float32)


def cut_window(packed: Packed, window: tuple[int, int, int], rng: np.random.Generator) -> Packed:
    """Crop a window from `window_in`."""
    code, instances = packed.code, packed.instances
    box, position_range = window_in(code, instances, window, rng)
    channels = packed.channels[(slice(None), *box)].copy()  # releases the whole brain
    return Packed(channels, code[box].copy(), instances[box].copy(), packed.present, position_range)


def sample_used_sequences(
    present: NDArray[np.bool_], rng: np.random.Generator, config: Presence
) -> NDArray[np.bool_]:
    """Sample which of a volume's available sequences, (4,) bool, are used; at least one."""
    used = sample_presence(rng, config) & present
    return used if used.any() else present


def random_placement(
    size: Sequence[int],
    position_range: NDArray[np.float32],
    shape: Sequence[int],
    rng: np.random.Generator,
) -> tuple[list[int], NDArray[np.float32]]:
    """Sample the start of a volume of `size` in a grid of `shape`; its position is unchanged."""
    start = [int(rng.integers(0, n - m + 1)) for n, m in zip(shape, size, strict=True)]
    return start, position_range


def collate(
    volumes: Sequence[Packed],
    rng: np.random.Generator,
    config: Presence,
    shape: tuple[int, int, int] | None = None,
    placing: Placement = random_placement,
) -> Batch:
    """Pad to a common grid and augment: mirror, gain, offset, dropped sequences.

    Parameters
    ----------
    volumes : sequence of Packed
        Their arrays may also be tensors; the batch is on the device of the first.
    config : Presence
        Shares of the sequences that are used.
    shape : (3,) int or None
        The grid; None for the smallest that holds all volumes.
    placing : callable
        Samples where each volume begins in the grid, and the position of the result.
    """
    device = torch.as_tensor(volumes[0].code).device
    shape = shape or padded_shape(np.array([v.code.shape for v in volumes]).max(0))
    channels = torch.zeros(len(volumes), 4, *shape, device=device)
    code, parts = torch.zeros(2, len(volumes), *shape, dtype=torch.uint8, device=device)
    position_ranges = np.zeros((len(volumes), 3, 2), np.float32)
    presence = np.stack([sample_used_sequences(volume.present, rng, config) for volume in volumes])
    for item, volume in enumerate(volumes):
        start, position_ranges[item] = placing(volume.code.shape, volume.position_range, shape, rng)
        i, j, k = (slice(a, a + m) for a, m in zip(start, volume.code.shape, strict=True))
        factors = rng.uniform(0.88, 1.12, (4, 1, 1, 1)), rng.uniform(-0.12, 0.12, (4, 1, 1, 1))
        gain, offset = torch.from_numpy(np.array(factors, np.float32)).to(device)
        volume_code = torch.as_tensor(volume.code)
        values = torch.as_tensor(volume.channels).float() * gain + offset
        channels[item, :, i, j, k] = values * (volume_code > 0)
        code[item, i, j, k], parts[item, i, j, k] = volume_code, torch.as_tensor(volume.instances)
        if rng.random() < 0.5:
            position_ranges[item, 0] = -position_ranges[item, 0, ::-1]
            for array in (channels[item], code[item], parts[item]):
                array.copy_(array.flip(-3))
    present = torch.from_numpy(presence).to(device)
    channels *= present[:, :, None, None, None]
    labels = torch.stack([code > level for level in (1, 2, 3)], 1).to(torch.uint8)
    return Batch(
        channels, present, code > 0, labels, parts, torch.from_numpy(position_ranges).to(device)
    )


def padded_shape(size: NDArray[np.int_]) -> tuple[int, int, int]:
    """Return (3,) voxels rounded up to a multiple of the network's stride."""
    i, j, k = (-size // _STRIDE * -_STRIDE).tolist()
    return i, j, k


def keep(packed: Packed, file: Path) -> None:
    """Write a volume in the format of `read`."""
    buffer = io.BytesIO()
    np.savez(buffer, **{f.name: getattr(packed, f.name) for f in fields(packed)})
    write_atomically(file, buffer.getvalue())


def read(file: Path) -> Packed:
    """Read a stored volume."""
    with np.load(file, allow_pickle=False) as stored:
        return Packed(**stored)
