"""Batches that the prompt network trains on, made whole by processes that run ahead of it.

Each round is a correction of what the network itself answered, as in RITM (Sofiiuk et al. 2021).
The weights that answer are those that the run wrote last, so a process needs nothing but files.
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
from prompt_samples import Sample, Sampler, mark
from prompt_small_samples import SmallSampler
from scipy import ndimage

from lesionlens.network.prompt.crop import network_input
from lesionlens.network.prompt.model import PromptNetwork
from lesionlens.network.prompt.weights import load_file

_ROUNDS = (0.52, 0.25, 0.13, 0.1)  # chance of as many answers of its own before the one that counts
_SIZES = (0.6, 0.3, 0.1)  # chance of crops of the size that was asked for, 8 and 24 voxels more
_LOCAL_MM, _REACH_MM = 14.0, 24.0
_AHEAD = 2  # batches a process


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


def weights_of(one: Sample) -> NDArray[np.float32]:
    """Where the answer counts: everywhere, or round the newest prompts, where it may change."""
    if not one.local or not one.newest.any():
        return np.ones(one.target.shape, np.float32)
    far = ndimage.distance_transform_edt(~one.newest) * one.scene.spacing_mm
    near = np.exp(-(far**2) / (2 * _LOCAL_MM**2))
    outline = one.question.outline
    if outline is not None:
        belongs = bool((one.question.foreground & one.newest).any())
        contested = ~outline if belongs else outline
        near = near * (0.2 + 0.8 * contested)
    return np.asarray(0.1 + near, np.float32)


class Drawer:
    """Draws batches by their number, in the process that it was made in."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._sampler = (SmallSampler if wanted.small else Sampler)(wanted.pool)
        self._network: PromptNetwork | None = None
        self._read = 0.0

    def batch(self, number: int) -> Batch:
        """Draw one batch; a number gives the same samples whoever draws it."""
        wanted = self._wanted
        rng = np.random.default_rng([wanted.seed, number, 1])
        larger = 0 if wanted.small else int(rng.choice((0, 8, 24), p=_SIZES))
        count = wanted.batch if larger < 24 else max(1, wanted.batch // 2)
        network = self._newest()
        made = []
        for _ in range(count):
            one = self._sampler.draw(wanted.size + larger, rng)
            for _ in range(int(rng.choice(len(_ROUNDS), p=_ROUNDS))):
                one = answered(network, one, rng)
            made.append(one)
        inputs = [network_input(one.scene, one.question) for one in made]
        return Batch(
            torch.cat([x.maps for x in inputs]).half().numpy(),
            torch.cat([x.facts for x in inputs]).numpy(),
            np.stack([one.target for one in made])[:, None],
            np.stack([weights_of(one) for one in made])[:, None].astype(np.float16),
        )

    def _newest(self) -> PromptNetwork:
        written = self._wanted.weights.stat().st_mtime
        if self._network is None or written != self._read:
            self._network, self._read = load_file(self._wanted.weights)[0], written
        return self._network


@torch.no_grad()
def answered(network: PromptNetwork, one: Sample, rng: np.random.Generator) -> Sample:
    """Let the network answer, and the reader point at what is wrong with that."""
    drawn = (network(network_input(one.scene, one.question)).logits[0, 0] > 0).numpy()
    outline = drawn & (one.scene.brain[0].numpy() > 0)
    before = one.question.outline
    if one.local and before is not None:
        far = ndimage.distance_transform_edt(~one.newest) * one.scene.spacing_mm
        outline = np.where(far > _REACH_MM, before, outline)
    again = replace(one, question=replace(one.question, outline=outline), local=True)
    return again if mark(again, rng) else one


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
        while len(self._ahead) < _AHEAD * self._workers:
            self._ahead.append(self._processes.submit(self._drawn, self._advanced()))
        return self._ahead.popleft().result()

    def close(self) -> None:
        """End the processes."""
        if self._processes is not None:
            self._processes.shutdown(cancel_futures=True)

    def _advanced(self) -> int:
        self._next += 1
        return self._next - 1


_here: Drawer | None = None


def _begin(wanted: Wanted) -> None:
    global _here  # noqa: PLW0603
    torch.set_num_threads(1)
    _here = Drawer(wanted)


def _drawn(number: int) -> Batch:
    assert _here is not None
    return _here.batch(number)
