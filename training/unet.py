"""Train a small U-Net, resuming an interrupted run, and add its weights to the package."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from lesionlens.base.provenance import sha256_of
from lesionlens.network.unet import FoldedUNet
from training import checkpoint, common
from training.optimiser import Optimiser

WEIGHTS = Path(__file__).parents[1] / "src/lesionlens/network/weight_files"
CHECKPOINT_S = 120.0
VALIDATED_STEPS = 500
Batch = tuple[Tensor, Callable[[Tensor], Tensor]]
"""(B, C, I, J, K) images, and the loss of their logits."""


def channels_last(network: FoldedUNet) -> FoldedUNet:
    """Convert to channels-last memory layout, in place."""
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # no such stub
    return network


def train(
    network: FoldedUNet,
    batches: Callable[[int], Iterator[Batch]],
    out: Path,
    minutes: float,
    *,
    average: float,
    warm_up: int,
    rate: float = 3e-3,
    validate: Callable[[], dict[str, float]] | None = None,
) -> None:
    """Train until the minutes of all sessions together are used.

    `batches` is called with the step to begin at, `validate` after each checkpoint that falls on a
    multiple of `VALIDATED_STEPS`.
    """
    optimiser = Optimiser(network, rate=rate, average=average)
    step, seconds = common.restore(out, network, optimiser)
    spent = seconds / 60
    started = saved = time.monotonic()
    losses: list[float] = []
    for image, loss_of in batches(step):
        minutes_spent = spent + (time.monotonic() - started) / 60
        with torch.autocast("cpu", torch.bfloat16):
            logit = network(image.contiguous(memory_format=torch.channels_last_3d))
        loss = loss_of(logit.float())
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, minutes_spent / minutes)))
        optimiser.step(loss, min(1.0, (step + 1) / warm_up) * (0.02 + 0.98 * cosine), step)
        losses.append(loss.item())
        step += 1
        is_last, validated = (
            minutes_spent >= minutes,
            validate is not None and step % VALIDATED_STEPS == 0,
        )
        if is_last or validated or time.monotonic() - saved > CHECKPOINT_S:
            saved = time.monotonic()
            common.save(out, network, optimiser, step, 60 * minutes_spent)
            figures = {"step": step, "minutes": minutes_spent, "loss": sum(losses) / len(losses)}
            if validate is not None and validated:
                figures |= validate()
            losses.clear()
            with (out / "log.jsonl").open("a") as log:
                log.write(json.dumps(figures) + "\n")
        if is_last:
            return


def averaged(out: Path, channels: int = 1) -> FoldedUNet:
    """Read the averaged weights of the latest checkpoint."""
    stored = checkpoint.load(out)
    if stored is None:
        raise SystemExit(f"no checkpoint in {out}")
    network = FoldedUNet(channels)
    network.load_state_dict(stored.below("opt/average/"))
    return channels_last(network).eval()


def release_unet(network: FoldedUNet, name: str, provenance: dict[str, object]) -> None:
    """Write NAME.safetensors in half precision, and NAME.json."""
    target = WEIGHTS / f"{name}.safetensors"
    save_file({k: v.half().contiguous() for k, v in network.state_dict().items()}, target)
    target.chmod(0o644)
    record = {"file": target.name, "sha256": sha256_of(target), **provenance}
    target.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")
