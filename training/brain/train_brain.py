"""Train the network that finds the brain in a head, on synthetic images alone; resumes.

    python -m training.brain.train_brain OUT --minutes 45 [--held-out 18,19,20] [--release]

OUT holds the checkpoint and a log. `--release` writes the averaged weights to the package instead
of training.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lesionlens.imaging.preparation.brain import SPACING_MM
from lesionlens.network.unet import FoldedUNet, scaled
from training import unet
from training.brain.whole_heads import generate_heads
from training.synth.atlas import INDIVIDUALS
from training.unet import averaged, release_unet

SHAPES = ((80, 96, 80), (64, 96, 96), (80, 80, 96), (64, 80, 80), (64, 96, 80))
FIRST_VALIDATION_SEED = 1_000_000


def _scaled(images: Tensor) -> Tensor:
    """Scale each (1, I, J, K) image as for a prediction."""
    return torch.from_numpy(np.stack([scaled(image) for image in images.numpy()]))


def loss_of(logit: Tensor, brain: Tensor) -> Tensor:
    """Return cross-entropy, plus one minus the soft Dice if there is brain."""
    entropy = functional.binary_cross_entropy_with_logits(logit, brain)
    probability = torch.sigmoid(logit)
    overlap, total = (probability * brain).sum(), (probability + brain).sum()
    if float(brain.sum()) < 50:
        return entropy
    return entropy + 1 - (2 * overlap + 1) / (total + 1)


@torch.no_grad()
def validate(network: FoldedUNet, heads: list[int], images: int = 24) -> dict[str, float]:
    """Return Dice over synthetic images of held-out heads, and the largest false brain in ml."""
    dice, false = [], []
    for seed in range(FIRST_VALIDATION_SEED, FIRST_VALIDATION_SEED + images):
        batch = generate_heads(SHAPES[seed % len(SHAPES)], SPACING_MM, [seed], heads)
        with torch.autocast("cpu", torch.bfloat16):
            logit = network(_scaled(batch.image)).float()
        predicted, reference = logit > 0, batch.brain > 0.5
        if int(reference.sum()) > 300:
            dice.append(
                2 * int((predicted & reference).sum()) / int(predicted.sum() + reference.sum())
            )
        else:
            false.append(int(predicted.sum()) * SPACING_MM**3 / 1000)
    ordered = sorted(dice)
    return {
        "dice_mean": sum(dice) / len(dice),
        "dice_tenth": ordered[len(dice) // 10],
        "dice_median": ordered[len(dice) // 2],
        "false_ml": max(false, default=0.0),
    }


def train(out: Path, minutes: float, held_out: list[int]) -> None:
    """Train on synthetic images of the heads that are not held out."""
    heads = [head for head in INDIVIDUALS if head not in held_out]
    torch.manual_seed(1)
    network = unet.channels_last(FoldedUNet())

    def batches(step: int) -> Iterator[unet.Batch]:
        for seed in count(step):
            batch = generate_heads(SHAPES[seed % len(SHAPES)], SPACING_MM, [seed], heads)
            yield _scaled(batch.image), partial(loss_of, brain=batch.brain)

    def run_validation() -> dict[str, float]:
        return validate(averaged(out), held_out or heads)

    unet.train(network, batches, out, minutes, average=0.99, warm_up=30, validate=run_validation)


def release(out: Path) -> None:
    """Write the averaged weights to the package."""
    release_unet(averaged(out), "brain", {})


def main() -> None:
    """Train or release."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=45.0)
    parser.add_argument("--held-out", default="18,19,20")
    parser.add_argument("--release", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.release:
        release(options.out)
        return
    train(options.out, options.minutes, [int(head) for head in options.held_out.split(",") if head])


if __name__ == "__main__":
    main()
