"""Batches: synthetic volumes by worker processes, kept in a pool, varied each time they are shown.

`BatchSource` is all that the loop knows: folders of real cases can take the generator's place.
"""

from __future__ import annotations

import dataclasses
import os
import queue as queues
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch import multiprocessing as processes

from lesionlens.network.synth.draw import DrawConfig, draw_geometry, paint
from lesionlens.training.config import DataConfig, StageConfig

VALIDATION_SEED = 2_000_000_000
"""Seeds from here on are for validation, and from `SAMPLE_SEED` for sample data."""
SAMPLE_SEED = 3_000_000_000
_STRIDE = 8
_WAIT_S = 300.0
_NICE = 5
_WHOLE = np.array([[-1, 1]] * 3, np.float32)
SEEDS_A_SOURCE = 1_000_000
"""Seeds that a source may use up; those of two sources never meet."""
_WINDOWS_A_PAINTING = 2


class Batch(NamedTuple):
    """What one step reads."""

    channels: Tensor
    """(B, 4, I, J, K) float32 z-scores."""
    present: Tensor
    """(B, 4) bool."""
    brain: Tensor
    """(B, I, J, K) bool."""
    labels: Tensor
    """(B, 3, I, J, K) uint8, nested WT, TC, ET."""
    instances: Tensor
    """(B, I, J, K) uint8, which lesion or distractor, as `synth.instances.number` counts them."""
    place: Tensor
    """(B, 3, 2) float32, where each volume lies in its brain, which reaches from -1 to 1."""


class BatchSource(Protocol):
    """Where batches come from."""

    def batch(self, size: int) -> Batch:
        """Hand over the next batch, on the CPU."""
        ...

    def close(self) -> None:
        """Give back processes and memory."""
        ...


@dataclass(frozen=True, slots=True)
class Packed:
    """One volume cut to its brain, small enough to keep many."""

    channels: NDArray[np.float16]
    """(4, I, J, K) z-scores."""
    code: NDArray[np.uint8]
    """(I, J, K): 0 outside, 1 brain, 2 WT, 3 TC, 4 ET."""
    instances: NDArray[np.uint8]
    """(I, J, K), as in `Batch`."""
    present: NDArray[np.bool_] = field(default_factory=lambda: np.ones(4, dtype=bool))
    """(4,): which sequences there are; a synthetic volume has all."""
    place: NDArray[np.float32] = field(default_factory=_WHOLE.copy)
    """(3, 2), as in `Batch`."""


def pack(channels: Tensor, labels: Tensor, parts: Tensor, brain: Tensor) -> Packed:
    """Cut (4, ...), (3, ...) and twice (I, J, K) to the brain's box and store them small."""
    inside = brain.nonzero()
    low, high = inside.amin(0).tolist(), (inside.amax(0) + 1).tolist()
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    code = brain.to(torch.uint8) + labels.sum(0, dtype=torch.uint8) * brain
    kept = channels[(slice(None), *box)].half().numpy()
    return Packed(kept, code[box].numpy(), parts[box].numpy())


def draw_packed(config: DrawConfig, seed: int, paintings: int) -> Iterator[Packed]:
    """One geometry, painted several times."""
    geometry = draw_geometry(config, [seed])
    for round_ in range(paintings):
        drawn = paint(config, geometry, [seed], round_)
        if bool(drawn.brain.any()):
            yield pack(drawn.zscored[0], drawn.labels[0], drawn.instances[0], drawn.brain[0])


def cuts(
    packed: Packed, window: tuple[int, int, int] | None, rng: np.random.Generator
) -> Iterator[Packed]:
    """Hand on the whole brain, or some windows of it."""
    if window is None:
        yield packed
        return
    for _ in range(_WINDOWS_A_PAINTING):
        yield cut_window(packed, window, rng)


def _produce(
    out: Any, config: DrawConfig, stage: StageConfig, seeds: range, paintings: int
) -> None:
    """Draw until stopped, in a worker."""
    torch.set_num_threads(1)
    if sys.platform != "win32":
        os.nice(_NICE)
    for seed in seeds:
        rng = np.random.default_rng(seed)
        for packed in draw_packed(config, seed, paintings):
            for cut in cuts(packed, stage.window, rng):
                out.put((cut.channels, cut.code, cut.instances, cut.present, cut.place))


def roll_presence(rng: np.random.Generator, config: DataConfig) -> NDArray[np.bool_]:
    """Which of the four sequences are shown, (4,) bool; at least one."""
    roll = rng.random() - config.complete
    if roll < 0:
        shown = np.ones(4, dtype=bool)
        shown[0] = config.without_t1 == 0 or rng.random() >= config.without_t1
        return shown
    for sequence, share in enumerate(config.single):
        if roll < share:
            return np.asarray(np.arange(4) == sequence)
        roll -= share
    kept = np.zeros(4, dtype=bool)
    kept[rng.choice(4, size=int(rng.integers(1, 4)), replace=False)] = True
    return kept


def cut_window(packed: Packed, window: tuple[int, int, int], rng: np.random.Generator) -> Packed:
    """Cut a window, in four of five round a lesion where there is one, any lesion alike."""
    code = packed.code
    lesions = np.unique(packed.instances[code > 1])
    if len(lesions) and rng.random() < 0.8:
        pick = np.argwhere((packed.instances == rng.choice(lesions)) & (code > 1))
    else:
        pick = np.argwhere(code > 0)
    centre = pick[rng.integers(len(pick))] + rng.normal(0, 6, 3)
    box: list[slice] = []
    for size, wanted, middle in zip(code.shape, window, centre, strict=True):
        start = int(np.clip(round(middle - wanted / 2), 0, max(0, size - wanted)))
        box.append(slice(start, start + min(wanted, size)))
    cut = (box[0], box[1], box[2])
    edges = np.array(
        [[one.start / n, one.stop / n] for one, n in zip(cut, code.shape, strict=True)]
    )
    channels = packed.channels[(slice(None), *cut)].copy()  # lets go of the brain
    place = (2 * edges - 1).astype(np.float32)
    return Packed(channels, code[cut].copy(), packed.instances[cut].copy(), packed.present, place)


def _shown(volume: Packed, rng: np.random.Generator, config: DataConfig) -> NDArray[np.bool_]:
    """Roll what is shown of a volume: only what is there, and never nothing."""
    shown = roll_presence(rng, config) & volume.present
    return shown if shown.any() else volume.present


def collate(volumes: list[Packed], rng: np.random.Generator, config: DataConfig) -> Batch:
    """Pad to one grid and vary: mirror, gain, offset, sequences left out."""
    sizes = np.array([v.code.shape for v in volumes]).max(0)
    shape = tuple(int(-(-n // _STRIDE) * _STRIDE) for n in sizes)
    channels = np.zeros((len(volumes), 4, *shape), np.float32)
    code, parts = np.zeros((2, len(volumes), *shape), np.uint8)
    place = np.zeros((len(volumes), 3, 2), np.float32)
    present = np.stack([_shown(volume, rng, config) for volume in volumes])
    for item, volume in enumerate(volumes):
        start = [
            int(rng.integers(0, n - m + 1)) for n, m in zip(shape, volume.code.shape, strict=True)
        ]
        i, j, k = (slice(a, a + m) for a, m in zip(start, volume.code.shape, strict=True))
        gain, offset = rng.uniform(0.88, 1.12, (4, 1, 1, 1)), rng.uniform(-0.12, 0.12, (4, 1, 1, 1))
        values = volume.channels.astype(np.float32) * gain.astype(np.float32) + offset.astype(
            np.float32
        )
        channels[item, :, i, j, k] = values * (volume.code > 0)
        code[item, i, j, k], parts[item, i, j, k] = volume.code, volume.instances
        place[item] = volume.place
        if rng.random() < 0.5:
            place[item, 0] = -place[item, 0, ::-1]
            for array in (channels[item].swapaxes(0, 1), code[item], parts[item]):
                array[:] = array[::-1].copy()
    channels *= present[:, :, None, None, None]
    labels = np.stack([code > level for level in (1, 2, 3)], 1)
    return Batch(
        torch.from_numpy(channels),
        torch.from_numpy(present),
        torch.from_numpy(code > 0),
        torch.from_numpy(labels.astype(np.uint8)),
        torch.from_numpy(parts),
        torch.from_numpy(place),
    )


class SynthSource:
    """Synthetic volumes for one stage.

    Parameters
    ----------
    draw : DrawConfig
        Its grid is taken from the stage.
    stage : StageConfig
    config : DataConfig
    seed : int
        Of the first volume; with workers the caller passes another one after every restart.
    done : int
        Batches handed over before, so that without workers a resumed run sees what an
        uninterrupted one would have seen.
    """

    def __init__(
        self, draw: DrawConfig, stage: StageConfig, config: DataConfig, seed: int, done: int = 0
    ) -> None:
        self._draw = dataclasses.replace(draw, shape=stage.shape, spacing_mm=stage.spacing_mm)
        self._stage, self._config = stage, config
        self._rng = np.random.default_rng((seed, done))
        self._pool: list[Packed] = []
        self._seed, self._done, self.drawn, self.shown = seed, done, 0, 0
        self._workers: list[Any] = []
        if config.workers:
            context = processes.get_context("spawn")
            self._queue = context.Queue(maxsize=8)
            for index in range(config.workers):
                seeds = range(seed + index, seed + SEEDS_A_SOURCE, config.workers)
                given = (self._queue, self._draw, stage, seeds, config.paintings)
                worker = context.Process(target=_produce, args=given, daemon=True)
                worker.start()
                self._workers.append(worker)

    def _receive(self, *, wait: bool) -> bool:
        try:
            drawn = self._queue.get(timeout=_WAIT_S) if wait else self._queue.get_nowait()
        except queues.Empty:
            return False
        self._pool.append(Packed(*drawn))
        self.drawn += 1
        return True

    def _fill(self) -> None:
        """Take what the workers have ready; wait only while the pool is very small."""
        least = min(8, self._config.pool)
        while len(self._pool) < least:
            if not self._receive(wait=True):
                raise TimeoutError(f"no volume was drawn within {_WAIT_S:.0f} s")
        while self._receive(wait=False):
            pass
        del self._pool[: max(0, len(self._pool) - self._config.pool)]

    def _draw_now(self, size: int) -> list[Packed]:
        """Draw in this process, by the number of the batch alone."""
        self._rng = np.random.default_rng((self._seed, self._done))
        first = self._seed + self._done * size
        self._done += 1
        self.drawn += size
        drawn = [p for n in range(size) for p in draw_packed(self._draw, first + n, 1)]
        return [next(cuts(packed, self._stage.window, self._rng)) for packed in drawn]

    def _choose(self, size: int) -> list[Packed]:
        """More than half of the time one of the newest, else any of the pool."""
        self._fill()
        chosen = []
        for _ in range(size):
            recent = self._pool[-12:] if self._rng.random() < 0.6 else self._pool
            chosen.append(recent[int(self._rng.integers(len(recent)))])
        return chosen

    def batch(self, size: int) -> Batch:
        """Hand over the next batch."""
        chosen = self._choose(size) if self._workers else self._draw_now(size)
        self.shown += size
        return collate(chosen, self._rng, self._config)

    def close(self) -> None:
        """Stop the workers."""
        for worker in self._workers:
            worker.terminate()
            worker.join(timeout=10)
        self._workers, self._pool = [], []


class MixedSource:
    """One source and, in a share of the batches, another.

    Parameters
    ----------
    first, second : Source
    share : float
        Of the batches that come from the second.
    seed, done : int
        Which do decides the number of the batch alone; `done` were handed over before.
    """

    def __init__(
        self, first: BatchSource, second: BatchSource, share: float, seed: int, done: int
    ) -> None:
        self._sources, self._share = (first, second), share
        self._seed, self._done = seed, done

    @property
    def drawn(self) -> int:
        """Volumes drawn so far."""
        return sum(getattr(source, "drawn", 0) for source in self._sources)

    @property
    def shown(self) -> int:
        """Volumes handed over so far."""
        return sum(getattr(source, "shown", 0) for source in self._sources)

    def batch(self, size: int) -> Batch:
        """Hand over the next batch."""
        second = is_second(self._seed, self._done, self._share)
        self._done += 1
        return self._sources[second].batch(size)

    def close(self) -> None:
        """Close both."""
        for source in self._sources:
            source.close()


def is_second(seed: int, number: int, share: float) -> bool:
    """Whether batch `number` comes from the second source."""
    return bool(np.random.default_rng((seed, number)).random() < share)


def mixed(
    first: Callable[[int], BatchSource],
    second: Callable[[int], BatchSource],
    share: float,
    seed: int,
    done: int,
) -> BatchSource:
    """Mix two sources, each made with the number of batches that it handed over before.

    A source with no share is not made.
    """
    if share <= 0:
        return first(done)
    if share >= 1:
        return second(done)
    later = sum(is_second(seed, n, share) for n in range(done))
    return MixedSource(first(done - later), second(later), share, seed, done)


def patch_stage(stage: StageConfig) -> StageConfig:
    """Return the stage of nothing but the patches of another."""
    near = stage.patches
    if near is None:
        return stage
    return dataclasses.replace(
        stage, shape=near.shape, spacing_mm=near.spacing_mm, window=near.window, patches=None
    )
