"""Train a prompt network on a pool of volumes; resumes an interrupted run.

    python -m training.prompts.train POOL --out RUN --minutes 80 [--steps N] [--device cuda]
    python -m training.prompts.train POOL --out RUN --init WEIGHTS --rate 1e-3
    python -m training.prompts.train POOL --out SMALL --small --batch 8 --size 32 --rate 1e-3

`--init` starts from given weights; `--small` trains the network for small objects, starting from
the shipped weights. Every few minutes the state is written to RUN, from which a later call with the
same RUN resumes, and the averaged weights to `RUN/prompt.safetensors`, whose outlines the samples
correct (`prompts/batches.py`). The learning rate decreases over `--steps` if given,
else over time.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lesionlens.base.provenance import sha256_of
from lesionlens.network.prompt.model import PromptConfig, PromptInput, PromptNetwork
from lesionlens.network.prompt.weights import FORMAT, PromptNotes, load_file, load_shipped
from lesionlens.training.config import OptimiserConfig
from lesionlens.training.optimiser import Optimiser
from training import common
from training.prompts.batches import Batch, BatchQueue, BatchSettings

_AVERAGE_DECAY = 0.9985


@dataclass(frozen=True, slots=True)
class Settings:
    """Options of a training run."""

    minutes: float
    steps: int
    batch: int
    size: int
    rate: float
    device: str
    seed: int
    workers: int = 0
    """Worker processes that generate batches; 0 for none."""
    keep_seconds: float = 150.0
    small: bool = False
    """Whether to train on small objects only, starting from the shipped weights."""
    init: Path | None = None
    """Weights to start from."""
    until: float = 0.0
    """Time to end at, in seconds since 1970; 0 to end after `minutes` of training."""
    plain: bool = False
    """Whether to use float32 and contiguous tensors, if the faster ones fail."""


def loss_of(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Return the sum of weighted cross-entropy and soft Dice loss."""
    voxel_entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    entropy = (voxel_entropy * weight).sum((1, 2, 3, 4)) / weight.sum((1, 2, 3, 4))
    probability = logits.sigmoid()
    overlap = (probability * target * weight).sum((1, 2, 3, 4))
    total = ((probability + target) * weight).sum((1, 2, 3, 4))
    dice = 1 - (2 * overlap + 5) / (total + 5)
    return (entropy + 0.8 * dice).mean()


def network_from(settings: Settings) -> PromptNetwork:
    """Return the network with the initial weights, or untrained."""
    if settings.init is not None:
        return load_file(settings.init)[0]
    return load_shipped()[0] if settings.small else PromptNetwork(PromptConfig())


class Training:
    """One run: network, optimiser, averaged weights, and progress."""

    def __init__(self, pool: Path, out: Path, settings: Settings) -> None:
        self._out, self._settings = out, settings
        self._device = torch.device(settings.device)
        torch.manual_seed(settings.seed)
        self.network = network_from(settings).to(self._device).train()
        self._format = torch.channels_last_3d
        if settings.plain:
            self._format = torch.contiguous_format
        self.network.to(memory_format=self._format)  # type: ignore[call-overload]  # no such stub
        self._optimiser = Optimiser(
            self.network,
            OptimiserConfig(
                rate=settings.rate, weight_decay=1e-3, average=_AVERAGE_DECAY, clip=1.0
            ),
        )
        init = settings.init and sha256_of(settings.init)
        self._origin = {"init": init, "small": settings.small}
        self.step, self._spent = common.restore(out, self.network, self._optimiser, self._origin)
        self.save()
        batch_settings = BatchSettings(
            pool, out / "prompt.safetensors", settings.batch, settings.size, settings.seed,
            settings.small,
        )  # fmt: skip
        self._batches = BatchQueue(batch_settings, settings.workers, self.step)

    def save(self) -> None:
        """Write the state and the averaged weights, each atomically."""
        from safetensors.torch import save_file

        common.save(self._out, self.network, self._optimiser, self.step, self._spent, self._origin)
        tensors = {k: v.float().cpu().contiguous() for k, v in self._optimiser.average.items()}
        metadata = {
            "format": FORMAT, "network": json.dumps(asdict(self.network.config)),
            "notes": json.dumps(asdict(PromptNotes("?", "?", self.step))),
        }  # fmt: skip
        save_file(tensors, self._out / "prompt.tmp", metadata)
        (self._out / "prompt.tmp").replace(self._out / "prompt.safetensors")

    def run(self) -> None:
        """Train until the time or the steps are used."""
        started = last_saved = time.monotonic()
        earlier_s, losses, waiting_s = self._spent, [], 0.0
        while True:
            self._spent = earlier_s + time.monotonic() - started
            progress = self._progress()
            if progress >= 1:
                break
            request_started = time.monotonic()
            batch = self._batches.batch()
            waiting_s += time.monotonic() - request_started
            losses.append(self._train_step(batch, progress))
            if self.step % 50 == 0:
                process_times = os.times()
                print(f"{self.step} {self._spent:.0f} s, {waiting_s:.0f} s of it for samples, "
                      f"{process_times.user + process_times.system:.0f} s of processor, "
                      f"{np.mean(losses):.4f}",
                      flush=True)  # fmt: skip
                losses = []
            if time.monotonic() - last_saved > self._settings.keep_seconds:
                self.save()
                last_saved = time.monotonic()
        self.save()

    def close(self) -> None:
        """End the worker processes."""
        self._batches.close()

    def _progress(self) -> float:
        settings = self._settings
        if settings.steps:
            return self.step / settings.steps
        if settings.until:
            return 1 - (settings.until - time.time()) / (60 * settings.minutes)
        return self._spent / (60 * settings.minutes)

    def _train_step(self, batch: Batch, progress: float) -> float:
        maps = self._to_device(batch.maps).contiguous(memory_format=self._format)
        x = PromptInput(maps, self._to_device(batch.facts))
        autocast = nullcontext() if self._settings.plain else torch.autocast(
            self._device.type, torch.bfloat16
        )  # fmt: skip
        with autocast:
            logits = self.network(x).logits
        loss = loss_of(logits.float(), self._to_device(batch.target), self._to_device(batch.weight))
        warmup_factor = min(1.0, (self.step + 1) / 100)
        rate_factor = warmup_factor * (
            0.03 + 0.97 * (1 + math.cos(math.pi * min(max(progress, 0), 1))) / 2
        )
        self._optimiser.step(loss, rate_factor, self.step)
        self.step += 1
        return float(loss.detach())

    def _to_device(self, values: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(values).to(self._device).float()


def main() -> None:
    """Train, resuming an interrupted run."""
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
    parser.add_argument("--init", type=Path)
    parser.add_argument("--until", type=float, default=0.0)
    parser.add_argument("--plain", action="store_true")
    arguments = vars(parser.parse_args())
    pool, out = arguments.pop("pool"), arguments.pop("out")
    settings = Settings(**arguments)
    print(settings, flush=True)
    training = Training(pool, out, settings)
    try:
        training.run()
    finally:
        training.close()


if __name__ == "__main__":
    main()
