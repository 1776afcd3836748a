"""Measure what the lesion queries find in held-out synthetic patients, by class and by size.

    python -m research.quality.lesion_queries [WEIGHTS.safetensors] [--patients 40]

A query counts if it gives a class a probability of at least one half. It has found a lesion of that
class if their masks overlap, and a tumour of 1 ml or more if the overlap is at least half of their
union. Mask Dice is computed at half of the network's resolution, that of the queries' masks.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

import torch
from scipy.optimize import linear_sum_assignment

from lesionlens.base.labels import LesionClass
from lesionlens.network import weights
from lesionlens.network.model import LensNetwork
from lesionlens.network.normalise import with_presence
from lesionlens.network.synth.generator import GeneratorConfig, draw
from lesionlens.training.data import FIRST_VALIDATION_SEED
from lesionlens.training.set_loss import instance_targets

FIRST_SEED = FIRST_VALIDATION_SEED + 700_000_000
SMALL_ML = 1.0


def overlaps(found: torch.Tensor, lesions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return intersection over union and Dice, each (Q, N), of masks (Q, ...) and (N, ...)."""
    predicted_masks, true_masks = found.flatten(1).float(), lesions.flatten(1).float()
    intersection = predicted_masks @ true_masks.T
    total = predicted_masks.sum(1, keepdim=True) + true_masks.sum(1)
    return intersection / (total - intersection).clamp_min(1), 2 * intersection / total.clamp_min(1)


def count_queries(
    network: LensNetwork, seed: int, spacing_mm: float, counts: Counter[str]
) -> list[float]:
    """Add one patient to the counts; return the Dice of every tumour found."""
    config = GeneratorConfig((92, 112, 88), (spacing_mm, spacing_mm))
    batch = draw(config, [seed])
    present = torch.ones(1, 4)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        lesions = network(with_presence(batch.zscored, present, batch.brain)).lesions
    if lesions is None:
        sys.exit("These weights have no lesion queries")
    masks = lesions.masks[0][0].float()
    targets = instance_targets(batch.instances[0], present[0] > 0, masks)
    confidence, kind = lesions.classes[0].softmax(-1)[:, : len(LesionClass)].max(1)
    is_confident = confidence >= 0.5
    union, dice = overlaps(masks[is_confident] > 0, targets.masks > 0.5)
    rows, columns = linear_sum_assignment(
        -(union * (kind[is_confident, None] == targets.classes)).numpy()
    )
    pair = dict(zip(columns.tolist(), rows.tolist(), strict=True))
    tumour_dice: list[float] = []
    found_count = 0
    for lesion, (true_class, mask) in enumerate(zip(targets.classes, targets.masks, strict=True)):
        volume = float(mask.sum()) * (2 * spacing_mm) ** 3 / 1000
        size = "small" if volume < SMALL_ML else "large"
        name = f"{list(LesionClass)[int(true_class)].display_name}, {size}"
        counts[f"{name}|total"] += 1
        query = pair.get(lesion)
        min_overlap = 0.5 if size == "large" and int(true_class) == 0 else 1e-6
        same_class = query is not None and int(kind[is_confident][query]) == int(true_class)
        if same_class and query is not None and float(union[query, lesion]) >= min_overlap:
            counts[f"{name}|found"] += 1
            found_count += 1
            if int(true_class) == 0:
                tumour_dice.append(float(dice[query, lesion]))
    counts["queries|total"] += int(is_confident.sum())
    counts["queries|found"] += found_count
    return tumour_dice


def main() -> None:
    """Print a line for each class."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("weights", type=Path, nargs="?")
    parser.add_argument("--patients", type=int, default=40)
    options = parser.parse_args()
    loaded = weights.load(options.weights) if options.weights else weights.load_shipped()
    network, info = loaded
    counts: Counter[str] = Counter()
    dice: list[float] = []
    for index in range(options.patients):
        dice += count_queries(network, FIRST_SEED + index, info.spacing_mm, counts)
    for name in sorted({key.split("|")[0] for key in counts}):
        total, found = counts[f"{name}|total"], counts[f"{name}|found"]
        verb = "correct" if name == "queries" else "found"
        print(f"{name}: {found} of {total} {verb} ({found / max(total, 1):.2f})")
    print(f"tumours found: mean mask Dice {sum(dice) / max(len(dice), 1):.2f}")


if __name__ == "__main__":
    main()
