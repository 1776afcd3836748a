"""Train a prompt network on a pool of volumes; resumes an interrupted run.

    python -m training.prompts.train POOL --out RUN --minutes 80 [--steps N] [--device cuda]
    python -m training.prompts.train POOL --out RUN --init WEIGHTS --rate 1e-3
    python -m training.prompts.train POOL --out SMALL --small --batch 8 --size 32 --rate 1e-3
    python -m training.prompts.train POOL --out RUN --release 0.2 --trained-on "…"

`--init` starts from given weights; `--small` trains the network for small objects, starting from
the shipped weights. The averaged weights in `RUN/prompt.safetensors` are written every two minutes,
and samples correct their outlines (`prompts/batches.py`). The learning rate decreases over
`--steps` if given, else over time. `--release` adds the averaged weights to the package instead.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from lesionlens.base.provenance import sha256_of
from lesionlens.network import prompt_net
from lesionlens.network.prompt_net import PromptConfig, PromptInput, PromptNetwork, PromptNotes
from training.prompts.batches import BatchQueue, BatchSettings
from training.run import WEIGHT_FILES, Run


def loss_of(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Return the sum of weighted cross-entropy and soft Dice loss."""
    voxel_entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    entropy = (voxel_entropy * weight).sum((1, 2, 3, 4)) / weight.sum((1, 2, 3, 4))
    probability = logits.sigmoid()
    overlap = (probability * target * weight).sum((1, 2, 3, 4))
    total = ((probability + target) * weight).sum((1, 2, 3, 4))
    dice = 1 - (2 * overlap + 5) / (total + 5)
    return (entropy + 0.8 * dice).mean()


def train(options: argparse.Namespace) -> None:
    """Train until the time or the steps are used."""
    torch.manual_seed(options.seed)
    if options.init or options.small:
        network = prompt_net.load(options.init)[0] if options.init else prompt_net.load()[0]
    else:
        network = PromptNetwork(PromptConfig())
    device, file = torch.device(options.device), options.out / "prompt.safetensors"
    network = network.to(device).train()
    origin = {"init": options.init and sha256_of(options.init), "small": options.small}
    run = Run(
        options.out, network, rate=options.rate, average=0.9985, weight_decay=1e-3, clip=1.0,
        origin=origin,
    )  # fmt: skip

    def save_weights() -> None:
        tensors = {k: v.float().cpu().contiguous() for k, v in run.average.items()}
        metadata = {
            "format": prompt_net.FORMAT, "network": json.dumps(asdict(network.config)),
            "notes": json.dumps(asdict(PromptNotes("?", "?", run.step))),
        }  # fmt: skip
        save_file(tensors, options.out / "prompt.tmp", metadata)
        (options.out / "prompt.tmp").replace(file)

    def on_device(values: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(values).to(device).float()

    def step_loss(_: int) -> Tensor:
        batch = batches.batch()
        maps = on_device(batch.maps).contiguous(memory_format=torch.channels_last_3d)
        with torch.autocast(device.type, torch.bfloat16):
            logits = network(PromptInput(maps, on_device(batch.facts))).logits
        return loss_of(logits.float(), on_device(batch.target), on_device(batch.weight))

    run.save(save_weights)  # whose outlines the first samples correct
    settings = BatchSettings(
        options.pool, file, options.batch, options.size, options.seed, options.small
    )
    batches = BatchQueue(settings, options.workers, run.step)
    try:
        run.train(
            step_loss, minutes=options.minutes, steps=options.steps, warmup=100, last_rate=0.03,
            save=save_weights,
        )  # fmt: skip
    finally:
        batches.close()


def release(run: Path, version: str, trained_on: str, name: str) -> str:
    """Write the weights in half precision, and a JSON file with their hash; return it."""
    network, notes, _ = prompt_net.load(run / "prompt.safetensors")
    file = WEIGHT_FILES / f"{name}.safetensors"
    digest = prompt_net.save(file, network, PromptNotes(version, trained_on, notes.steps))
    record = {
        "file": file.name, "sha256": digest, "version": version, "steps": notes.steps,
        "trained_on": trained_on,
    }  # fmt: skip
    file.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    return digest


def main() -> None:
    """Train, resuming an interrupted run, or release."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("pool", type=Path)
    add("--out", type=Path, required=True)
    add("--minutes", type=float, default=60)
    add("--steps", type=int, default=0)
    add("--batch", type=int, default=2)
    add("--size", type=int, default=48)
    add("--rate", type=float, default=2e-3)
    add("--device", default="cpu")
    add("--seed", type=int, default=0)
    add("--workers", type=int, default=0)
    add("--small", action="store_true")
    add("--init", type=Path)
    add("--release", metavar="VERSION")
    add("--trained-on", default="")
    options = parser.parse_args()
    if options.release:
        name = prompt_net.SMALL if options.small else prompt_net.GENERAL
        print(release(options.out, options.release, options.trained_on, name))
    else:
        train(options)


if __name__ == "__main__":
    main()
