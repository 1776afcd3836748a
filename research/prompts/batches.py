"""Training batches for the prompt network, made in advance by worker processes.

Each round corrects an answer of the network itself, as in RITM (Sofiiuk et al. 2021). Workers
answer with the weights that the run wrote last, so they exchange nothing but files.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.process.worker_processes import end_with_parent
from lesionlens.network.prompt.crop import network_input
from lesionlens.network.prompt.model import PromptNetwork
from lesionlens.network.prompt.weights import load_file
from research.prompts.samples import Sample, Sampler, mark
from research.prompts.small_samples import SmallSampler

_ROUND_PROBABILITIES = (
    0.52,
    0.25,
    0.13,
    0.1,
)  # chance of as many answers of its own before the one that counts
_SIZE_PROBABILITIES = (
    0.6,
    0.3,
    0.1,
)  # chance of crops of the size that was asked for, 8 and 24 voxels more
_LOCAL_MM, _REACH_MM = 14.0, 24.0
_BATCHES_AHEAD = 2  # batches a process


class Batch(NamedTuple):
    """Samples of one size."""

    maps: NDArray[np.float16]
    """(B, MAPS, n, n, n)."""
    facts: NDArray[np.float32]
    """(B, FACTS)."""
    target: NDArray[np.bool_]
    """(B, 1, n, n, n)."""
    weight: NDArray[np.float16]
    """(B, 1, n, n, n): how much the answer counts."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is drawn, from where, and whose answers are corrected."""

    pool: Path
    weights: Path
    batch: int
    size: int
    seed: int
    small: bool
    """Whether small objects alone are drawn."""


def weights_of(drawn: Sample) -> NDArray[np.float32]:
    """Where the answer counts: everywhere, or round the newest prompts, where it may change."""
    if not drawn.local or not drawn.newest.any():
        return np.ones(drawn.target.shape, np.float32)
    distance_mm = ndimage.distance_transform_edt(~drawn.newest) * drawn.scene.spacing_mm
    proximity = np.exp(-(distance_mm**2) / (2 * _LOCAL_MM**2))
    outline = drawn.question.outline
    if outline is not None:
        belongs = bool((drawn.question.foreground & drawn.newest).any())
        contested = ~outline if belongs else outline
        proximity = proximity * (0.2 + 0.8 * contested)
    return np.asarray(0.1 + proximity, np.float32)


class Drawer:
    """Draws batches by their number, in the process that it was made in."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._sampler = (SmallSampler if wanted.small else Sampler)(wanted.pool)
        self._network: PromptNetwork | None = None
        self._read = 0.0

    def batch(self, number: int) -> Batch:
        """Draw one batch; a number gives the same samples whoever draws it."""
        settings = self._wanted
        rng = np.random.default_rng([settings.seed, number, 1])
        extra_vox = 0 if settings.small else int(rng.choice((0, 8, 24), p=_SIZE_PROBABILITIES))
        count = settings.batch if extra_vox < 24 else max(1, settings.batch // 2)
        network = self._newest()
        samples = []
        for _ in range(count):
            drawn = self._sampler.draw(settings.size + extra_vox, rng)
            for _ in range(int(rng.choice(len(_ROUND_PROBABILITIES), p=_ROUND_PROBABILITIES))):
                drawn = answered(network, drawn, rng)
            samples.append(drawn)
        inputs = [network_input(drawn.scene, drawn.question) for drawn in samples]
        return Batch(
            torch.cat([x.maps for x in inputs]).half().numpy(),
            torch.cat([x.facts for x in inputs]).numpy(),
            np.stack([drawn.target for drawn in samples])[:, None],
            np.stack([weights_of(drawn) for drawn in samples])[:, None].astype(np.float16),
        )

    def _newest(self) -> PromptNetwork:
        written = self._wanted.weights.stat().st_mtime
        if self._network is None or written != self._read:
            self._network, self._read = load_file(self._wanted.weights)[0], written
        return self._network


@torch.no_grad()
def answered(network: PromptNetwork, drawn_sample: Sample, rng: np.random.Generator) -> Sample:
    """Let the network answer, and the reader point at what is wrong with that."""
    predicted = (
        network(network_input(drawn_sample.scene, drawn_sample.question)).logits[0, 0] > 0
    ).numpy()
    outline = predicted & (drawn_sample.scene.brain[0].numpy() > 0)
    previous = drawn_sample.question.outline
    if drawn_sample.local and previous is not None:
        distance_mm = (
            ndimage.distance_transform_edt(~drawn_sample.newest) * drawn_sample.scene.spacing_mm
        )
        outline = np.where(distance_mm > _REACH_MM, previous, outline)
    corrected = replace(
        drawn_sample, question=replace(drawn_sample.question, outline=outline), local=True
    )
    return corrected if mark(corrected, rng) else drawn_sample


class Draws:
    """Batches in order, drawn ahead by other processes where there are any."""

    def __init__(self, wanted: Wanted, workers: int, first: int) -> None:
        self._next, self._workers = first, workers
        self._processes: Executor | None = None
        self._ahead: deque[Future[Batch]] = deque()
        if workers:
            self._processes = ProcessPoolExecutor(workers, get_context("spawn"), _begin, (wanted,))
        self._drawn: Callable[[int], Batch] = _drawn if workers else Drawer(wanted).batch

    def batch(self) -> Batch:
        """Return the next batch."""
        if self._processes is None:
            return self._drawn(self._advanced())
        while len(self._ahead) < _BATCHES_AHEAD * self._workers:
            self._ahead.append(self._processes.submit(self._drawn, self._advanced()))
        return self._ahead.popleft().result()

    def close(self) -> None:
        """End the processes."""
        if self._processes is not None:
            self._processes.shutdown(cancel_futures=True)

    def _advanced(self) -> int:
        self._next += 1
        return self._next - 1


_drawer: Drawer | None = None


def _begin(wanted: Wanted) -> None:
    global _drawer  # noqa: PLW0603
    end_with_parent()
    torch.set_num_threads(1)
    _drawer = Drawer(wanted)


def _drawn(number: int) -> Batch:
    assert _drawer is not None
    return _drawer.batch(number)
