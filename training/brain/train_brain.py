"""Train the network that finds the brain in a head, on synthetic images alone; resumes.

    python -m training.brain.train_brain OUT --minutes 45 [--held-out 18,19,20] [--release]

OUT holds the state of the run. `--release` writes the averaged weights to the package instead of
training.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from lesionlens.base.provenance import sha256_of
from lesionlens.imaging.preparation.brain import SPACING_MM
from lesionlens.network.unet import FoldedUNet, scaled
from training.brain.whole_heads import generate_head
from training.run import WEIGHT_FILES, Run
from training.synth.atlas import INDIVIDUALS

SHAPES = ((80, 96, 80), (64, 96, 96), (80, 80, 96), (64, 80, 80), (64, 96, 80))


def loss_of(logit: Tensor, brain: Tensor) -> Tensor:
    """Return cross-entropy, plus one minus the soft Dice if there is brain."""
    entropy = functional.binary_cross_entropy_with_logits(logit, brain)
    probability = torch.sigmoid(logit)
    overlap, total = (probability * brain).sum(), (probability + brain).sum()
    if float(brain.sum()) < 50:
        return entropy
    return entropy + 1 - (2 * overlap + 1) / (total + 1)


def release(average: dict[str, Tensor]) -> None:
    """Write brain.safetensors in half precision, and brain.json."""
    target = WEIGHT_FILES / "brain.safetensors"
    save_file({k: v.half().contiguous() for k, v in average.items()}, target)
    target.chmod(0o644)
    record = {"file": target.name, "sha256": sha256_of(target)}
    target.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")


def main() -> None:
    """Train on images of the heads that are not held out, or release."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=45.0)
    parser.add_argument("--held-out", default="18,19,20")
    parser.add_argument("--release", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    held_out = [int(head) for head in options.held_out.split(",") if head]
    heads = [head for head in INDIVIDUALS if head not in held_out]
    network = FoldedUNet()
    run = Run(options.out, network, rate=3e-3, average=0.99)
    if options.release:
        if not run.step:
            parser.error(f"no run in {options.out}")
        release(run.average)
        return

    def step_loss(step: int) -> Tensor:
        image, brain = generate_head(SHAPES[step % len(SHAPES)], SPACING_MM, step, heads)
        x = torch.from_numpy(np.stack([scaled(each) for each in image.numpy()]))
        with torch.autocast("cpu", torch.bfloat16):
            logit = network(x.contiguous(memory_format=torch.channels_last_3d))
        return loss_of(logit.float(), brain)

    run.train(step_loss, minutes=options.minutes, warmup=30, last_rate=0.02)


if __name__ == "__main__":
    main()
