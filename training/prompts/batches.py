"""Training batches for the prompt network, made in advance by worker processes.

Prompts correct outlines of the network itself, as in RITM (Sofiiuk et al. 2021). Workers predict
with the weights that the run wrote last, so that they communicate only through files.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.process import end_with_parent
from lesionlens.network.prompt_net import PromptNetwork, load, prompt_input
from training.prompts.samples import Sample, Sampler, add_prompt
from training.prompts.small_samples import SmallSampler

_ROUND_PROBABILITIES = (0.52, 0.25, 0.13, 0.1)  # of 0 to 3 rounds of correction before it
_SIZE_PROBABILITIES = (0.6, 0.3, 0.1)  # of the given size, and of 8 and 24 voxels more
_WEIGHT_SIGMA_MM, _MAX_CHANGE_MM = 14.0, 24.0
_BATCHES_AHEAD = 2  # per worker process


class Batch(NamedTuple):
    """Samples of one size."""

    maps: NDArray[np.float16]
    """(B, MAPS, n, n, n)."""
    facts: NDArray[np.float32]
    """(B, FACTS)."""
    target: NDArray[np.bool_]
    """(B, 1, n, n, n)."""
    weight: NDArray[np.float16]
    """(B, 1, n, n, n): weight of each voxel in the loss."""


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """The pool, the weights whose outlines are corrected, and the batches."""

    pool: Path
    weights: Path
    batch: int
    size: int
    seed: int
    small: bool
    """Whether only small objects are sampled."""


def loss_weights(sample: Sample) -> NDArray[np.float32]:
    """Return each voxel's weight in the loss: uniform, or larger near the latest prompts."""
    if not sample.local or not sample.latest_prompts.any():
        return np.ones(sample.target.shape, np.float32)
    distance_mm = ndimage.distance_transform_edt(~sample.latest_prompts) * sample.scene.spacing_mm
    proximity = np.exp(-(distance_mm**2) / (2 * _WEIGHT_SIGMA_MM**2))
    outline = sample.question.outline
    if outline is not None:
        is_foreground = bool((sample.question.foreground & sample.latest_prompts).any())
        contested = ~outline if is_foreground else outline
        proximity = proximity * (0.2 + 0.8 * contested)
    return np.asarray(0.1 + proximity, np.float32)


class BatchGenerator:
    """Generates batches by their number, within one process."""

    def __init__(self, settings: BatchSettings) -> None:
        self._settings = settings
        self._sampler = (SmallSampler if settings.small else Sampler)(settings.pool)
        self._network: PromptNetwork | None = None
        self._loaded_at = 0.0

    def batch(self, number: int) -> Batch:
        """Generate one batch; it depends only on its number and the current weights."""
        settings = self._settings
        rng = np.random.default_rng([settings.seed, number, 1])
        extra_vox = 0 if settings.small else int(rng.choice((0, 8, 24), p=_SIZE_PROBABILITIES))
        batch_size = settings.batch if extra_vox < 24 else max(1, settings.batch // 2)
        network = self._latest_network()
        samples = []
        for _ in range(batch_size):
            sample = self._sampler.draw(settings.size + extra_vox, rng)
            for _ in range(int(rng.choice(len(_ROUND_PROBABILITIES), p=_ROUND_PROBABILITIES))):
                sample = corrected_sample(network, sample, rng)
            samples.append(sample)
        inputs = [prompt_input(sample.scene, sample.question) for sample in samples]
        return Batch(
            torch.cat([x.maps for x in inputs]).half().numpy(),
            torch.cat([x.facts for x in inputs]).numpy(),
            np.stack([sample.target for sample in samples])[:, None],
            np.stack([loss_weights(sample) for sample in samples])[:, None].astype(np.float16),
        )

    def _latest_network(self) -> PromptNetwork:
        written = self._settings.weights.stat().st_mtime
        if self._network is None or written != self._loaded_at:
            self._network, self._loaded_at = load(self._settings.weights)[0], written
        return self._network


@torch.no_grad()
def corrected_sample(network: PromptNetwork, sample: Sample, rng: np.random.Generator) -> Sample:
    """Replace the outline by the network's, with a prompt at its largest error."""
    predicted = (network(prompt_input(sample.scene, sample.question)).logits[0, 0] > 0).numpy()
    outline = predicted & (sample.scene.brain[0].numpy() > 0)
    previous = sample.question.outline
    if sample.local and previous is not None:
        distance = ndimage.distance_transform_edt(~sample.latest_prompts)
        distance_mm = distance * sample.scene.spacing_mm
        outline = np.where(distance_mm > _MAX_CHANGE_MM, previous, outline)
    corrected = replace(sample, question=replace(sample.question, outline=outline), local=True)
    return corrected if add_prompt(corrected, rng) else sample


class BatchQueue:
    """Batches in order, generated in advance by worker processes, if any."""

    def __init__(self, settings: BatchSettings, workers: int, first: int) -> None:
        self._numbers, self._workers = count(first), workers
        self._ahead: deque[Future[Batch]] = deque()
        self._generator = None if workers else BatchGenerator(settings)
        self._processes = ProcessPoolExecutor(
            max(1, workers), get_context("spawn"), _start_worker, (settings,)
        )

    def batch(self) -> Batch:
        """Return the next batch."""
        if self._generator is not None:
            return self._generator.batch(next(self._numbers))
        while len(self._ahead) < _BATCHES_AHEAD * self._workers:
            self._ahead.append(self._processes.submit(_generate_batch, next(self._numbers)))
        return self._ahead.popleft().result()

    def close(self) -> None:
        """End the processes."""
        self._processes.shutdown(cancel_futures=True)


_generators: list[BatchGenerator] = []  # of this worker process


def _start_worker(settings: BatchSettings) -> None:
    end_with_parent()
    torch.set_num_threads(1)
    _generators.append(BatchGenerator(settings))


def _generate_batch(number: int) -> Batch:
    return _generators[0].batch(number)
