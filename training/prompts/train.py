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
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lesionlens.base.provenance import sha256_of
from lesionlens.network.prompt_net import (
    FORMAT,
    PromptConfig,
    PromptInput,
    PromptNetwork,
    PromptNotes,
    load,
)
from training import common
from training.optimiser import Optimiser
from training.prompts.batches import Batch, BatchQueue, BatchSettings

_AVERAGE_DECAY, _KEEP_SECONDS = 0.9985, 150.0


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
    small: bool = False
    """Whether to train on small objects only, starting from the shipped weights."""
    init: Path | None = None


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
        return load(settings.init)[0]
    return load()[0] if settings.small else PromptNetwork(PromptConfig())


class Training:
    """One run: network, optimiser, averaged weights, and progress."""

    def __init__(self, pool: Path, out: Path, settings: Settings) -> None:
        self._out, self._settings = out, settings
        self._device = torch.device(settings.device)
        torch.manual_seed(settings.seed)
        self.network = network_from(settings).to(self._device).train()
        self.network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self._optimiser = Optimiser(
            self.network,
            rate=settings.rate,
            average=_AVERAGE_DECAY,
            weight_decay=1e-3,
            clip=1.0,
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
        earlier_s, losses = self._spent, []
        while True:
            self._spent = earlier_s + time.monotonic() - started
            progress = self._progress()
            if progress >= 1:
                break
            losses.append(self._train_step(self._batches.batch(), progress))
            if self.step % 50 == 0:
                print(f"{self.step} {self._spent:.0f} s {np.mean(losses):.4f}", flush=True)
                losses = []
            if time.monotonic() - last_saved > _KEEP_SECONDS:
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
        return self._spent / (60 * settings.minutes)

    def _train_step(self, batch: Batch, progress: float) -> float:
        maps = self._to_device(batch.maps).contiguous(memory_format=torch.channels_last_3d)
        x = PromptInput(maps, self._to_device(batch.facts))
        with torch.autocast(self._device.type, torch.bfloat16):
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
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--init", type=Path)
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
