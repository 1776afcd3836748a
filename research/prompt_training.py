"""Train a prompt network on a pool of volumes; resumes where it stopped.

    python research/prompt_training.py POOL --out RUN --minutes 80 [--steps N] [--device cuda]
    python research/prompt_training.py POOL --out SMALL --small --batch 8 --size 32 --rate 1e-3

With --small it is the network for small objects, from the shipped weights on. Every few minutes the
state is written to `RUN/state.pt`, from which a later call with the same RUN goes on, and the
averaged weights to `RUN/prompt.safetensors`. Each round is a correction of what the network itself
answered, as in RITM (Sofiiuk et al. 2021). The step size falls with the steps when `--steps` is
given, else with the clock.
"""

from __future__ import annotations

import argparse
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from prompt_samples import Sample, Sampler, mark
from prompt_small_samples import SmallSampler
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from lesionlens.network.prompt.crop import network_input
from lesionlens.network.prompt.model import PromptConfig, PromptInput, PromptNetwork
from lesionlens.network.prompt.weights import load_shipped
from lesionlens.training.config import OptimiserConfig
from lesionlens.training.optimiser import Optimiser

_ROUNDS = (0.52, 0.25, 0.13, 0.1)  # chance of as many answers of its own before the one that counts
_SIZES = (0.6, 0.3, 0.1)  # chance of crops of the size that was asked for, 8 and 24 voxels more
_AVERAGE = 0.9985
_LOCAL_MM, _REACH_MM = 14.0, 24.0
One, Made = TypeVar("One"), TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Settings:
    """How long and how fast."""

    minutes: float
    steps: int
    batch: int
    size: int
    rate: float
    device: str
    seed: int
    workers: int = 0
    """Processes that draw samples ahead, and threads that prepare them; 0 for none."""
    keep_seconds: float = 150.0
    small: bool = False
    """Whether small objects alone are drawn, from the shipped weights on."""


def _every(
    work: Callable[[One], Made], some: Sequence[One], threads: Executor | None
) -> list[Made]:
    return list(map(work, some) if threads is None else threads.map(work, some))


def stacked(
    samples: list[Sample], device: torch.device, threads: Executor | None = None
) -> PromptInput:
    """Make one input of several samples of a size."""
    made = _every(lambda one: network_input(one.scene, one.question), samples, threads)
    maps = torch.cat([one.maps for one in made]).to(device)
    facts = torch.cat([one.facts for one in made]).to(device)
    return PromptInput(maps.contiguous(memory_format=torch.channels_last_3d), facts)


def weights_of(one: Sample) -> np.ndarray:
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


def loss_of(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy and soft Dice, both weighted."""
    flat = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    entropy = (flat * weight).sum((1, 2, 3, 4)) / weight.sum((1, 2, 3, 4))
    chance = logits.sigmoid()
    both = (chance * target * weight).sum((1, 2, 3, 4))
    total = ((chance + target) * weight).sum((1, 2, 3, 4))
    dice = 1 - (2 * both + 5) / (total + 5)
    return (entropy + 0.8 * dice).mean()


class Draws:
    """Batches of samples in order, drawn ahead by other processes where there are any."""

    def __init__(self, pool: Path, settings: Settings, first: int) -> None:
        self._pool, self._settings, self._next = pool, settings, first
        self._sampler = None if settings.workers else sampler_of(pool, settings.small)
        self._processes: Executor | None = None
        self._ahead: deque[Future[list[Sample]]] = deque()
        if settings.workers:
            self._processes = ProcessPoolExecutor(
                settings.workers, get_context("spawn"), _begin, (pool, settings.small)
            )

    def batch(self) -> list[Sample]:
        """Return the next batch."""
        if self._processes is None or self._sampler is not None:
            return _drawn(self._settings, self._advanced(), self._sampler)
        while len(self._ahead) < 3 * self._settings.workers:
            self._ahead.append(self._processes.submit(_drawn, self._settings, self._advanced()))
        return self._ahead.popleft().result()

    def close(self) -> None:
        """End the processes."""
        if self._processes is not None:
            self._processes.shutdown(cancel_futures=True)

    def _advanced(self) -> int:
        self._next += 1
        return self._next - 1


_here: Sampler | None = None


def _begin(pool: Path, small: bool) -> None:
    global _here  # noqa: PLW0603
    torch.set_num_threads(1)
    _here = sampler_of(pool, small)


def sampler_of(pool: Path, small: bool) -> Sampler:
    """Make the sampler of a pool."""
    return SmallSampler(pool) if small else Sampler(pool)


def _drawn(settings: Settings, number: int, sampler: Sampler | None = None) -> list[Sample]:
    rng = np.random.default_rng([settings.seed, number, 1])
    sampler = sampler or _here
    assert sampler is not None
    larger = 0 if settings.small else int(rng.choice((0, 8, 24), p=_SIZES))
    batch = settings.batch if larger < 24 else max(1, settings.batch // 2)
    return [sampler.draw(settings.size + larger, rng) for _ in range(batch)]


class Training:
    """One run: network, optimiser, average, and how far it is."""

    def __init__(self, pool: Path, out: Path, settings: Settings) -> None:
        self._out, self._settings = out, settings
        self._device = torch.device(settings.device)
        self._threads = ThreadPoolExecutor(settings.workers) if settings.workers else None
        torch.manual_seed(settings.seed)
        self.network = PromptNetwork(PromptConfig()).to(self._device)
        self.network.to(memory_format=torch.channels_last_3d)
        if settings.small:
            self.network.load_state_dict(load_shipped(self._device)[0].state_dict())
        self._optimiser = Optimiser(
            self.network,
            OptimiserConfig(rate=settings.rate, weight_decay=1e-3, average=_AVERAGE, clip=1.0),
        )
        self.step, self._spent = 0, 0.0
        self._read()
        self._draws = Draws(pool, settings, self.step)

    def _read(self) -> None:
        file = self._out / "state.pt"
        if file.is_file():
            kept = torch.load(file, map_location=self._device, weights_only=True)
            self.network.load_state_dict(kept["network"])
            self._optimiser.load(kept["optimiser"])
            self.step, self._spent = kept["step"], kept["spent"]

    def keep(self) -> None:
        """Write state and weights; each file is whole or the one before."""
        from safetensors.torch import save_file  # noqa: PLC0415

        self._out.mkdir(parents=True, exist_ok=True)
        kept = {
            "network": self.network.state_dict(), "optimiser": self._optimiser.state(),
            "step": self.step, "spent": self._spent,
        }  # fmt: skip
        torch.save(kept, self._out / "state.tmp")
        (self._out / "state.tmp").replace(self._out / "state.pt")
        plain = {k: v.float().cpu().contiguous() for k, v in self._optimiser.average.items()}
        save_file(plain, self._out / "prompt.tmp", {"steps": str(self.step)})
        (self._out / "prompt.tmp").replace(self._out / "prompt.safetensors")

    def run(self) -> None:
        """Train until the time or the steps are over."""
        rng = np.random.default_rng([self._settings.seed, self.step])
        begun = kept = time.monotonic()
        before, losses = self._spent, []
        while True:
            self._spent = before + time.monotonic() - begun
            part = self._part()
            if part >= 1:
                break
            losses.append(self._one(rng, part))
            if self.step % 50 == 0:
                print(f"{self.step} {self._spent:.0f} s {np.mean(losses):.4f}", flush=True)
                losses = []
            if time.monotonic() - kept > self._settings.keep_seconds:
                self.keep()
                kept = time.monotonic()
        self.keep()
        self._draws.close()

    def _part(self) -> float:
        settings = self._settings
        if settings.steps:
            return self.step / settings.steps
        return self._spent / (60 * settings.minutes)

    def _one(self, rng: np.random.Generator, part: float) -> float:
        samples = self._draws.batch()
        for _ in range(int(rng.choice(len(_ROUNDS), p=_ROUNDS))):
            samples = self._answered(samples, rng)
        x = stacked(samples, self._device, self._threads)
        target = torch.from_numpy(np.stack([s.target for s in samples])[:, None])
        weight = torch.from_numpy(np.stack(_every(weights_of, samples, self._threads))[:, None])
        self.network.train()
        with torch.autocast(self._device.type, torch.bfloat16):
            logits = self.network(x).logits
        loss = loss_of(logits.float(), target.float().to(self._device), weight.to(self._device))
        warm = min(1.0, (self.step + 1) / 100)
        share = warm * (0.03 + 0.97 * (1 + math.cos(math.pi * min(part, 1))) / 2)
        self._optimiser.step(loss, share, self.step)
        self.step += 1
        return float(loss.detach())

    @torch.no_grad()
    def _answered(self, samples: list[Sample], rng: np.random.Generator) -> list[Sample]:
        """Let the network answer, and the reader point at what is wrong with that."""
        self.network.eval()
        with torch.autocast(self._device.type, torch.bfloat16):
            x = stacked(samples, self._device, self._threads)
            logits = self.network(x).logits[:, 0]

        def pointed(pair: tuple[Sample, np.ndarray, np.random.Generator]) -> Sample:
            one, drawn, chance = pair
            outline = drawn & (one.scene.brain[0].numpy() > 0)
            before = one.question.outline
            if one.local and before is not None:
                far = ndimage.distance_transform_edt(~one.newest) * one.scene.spacing_mm
                outline = np.where(far > _REACH_MM, before, outline)
            asked = replace(one.question, outline=outline)
            again = replace(one, question=asked, local=True)
            return again if mark(again, chance) else one

        some = zip(samples, (logits > 0).cpu().numpy(), rng.spawn(len(samples)), strict=True)
        return _every(pointed, list(some), self._threads)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pool", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--keep-seconds", type=float, default=150.0)
    parser.add_argument("--small", action="store_true")
    wanted = vars(parser.parse_args())
    pool, out = wanted.pop("pool"), wanted.pop("out")
    settings = Settings(**wanted)
    print(asdict(settings), flush=True)
    Training(pool, out, settings).run()


if __name__ == "__main__":
    main()
