"""What the lesion queries find on synthetic patients that no step has seen: by kind, by size.

    python research/lesion_queries.py [WEIGHTS.safetensors] [--patients 40]

A query counts that gives some kind at least one half. It has found a part of that kind where their
masks overlap, and a tumour of 1 ml or more where they overlap by at least half of their union. Mask
Dice is taken at half of the network's resolution, where lesion queries draw.
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
from lesionlens.network.synth.draw import DrawConfig, draw
from lesionlens.training.data import VALIDATION_SEED
from lesionlens.training.set_loss import instance_targets

FIRST_SEED = VALIDATION_SEED + 700_000_000
SMALL_ML = 1.0


def overlaps(found: torch.Tensor, parts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Union overlap and Dice (Q, N) of masks (Q, ...) and (N, ...)."""
    one, other = found.flatten(1).float(), parts.flatten(1).float()
    both = one @ other.T
    total = one.sum(1, keepdim=True) + other.sum(1)
    return both / (total - both).clamp_min(1), 2 * both / total.clamp_min(1)


def examine(
    network: LensNetwork, seed: int, spacing_mm: float, counts: Counter[str]
) -> list[float]:
    """Add one patient to the counts; the Dice of every tumour that was found."""
    config = DrawConfig((92, 112, 88), (spacing_mm, spacing_mm))
    drawn = draw(config, [seed])
    present = torch.ones(1, 4)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        out = network(with_presence(drawn.zscored, present, drawn.brain)).lesions
    if out is None:
        sys.exit("These weights have no lesion queries")
    masks = out.masks[0][0].float()
    goal = instance_targets(drawn.instances[0], present[0] > 0, masks)
    confidence, kind = out.classes[0].softmax(-1)[:, : len(LesionClass)].max(1)
    sure = confidence >= 0.5
    union, dice = overlaps(masks[sure] > 0, goal.masks > 0.5)
    rows, columns = linear_sum_assignment(-(union * (kind[sure, None] == goal.classes)).numpy())
    pair = dict(zip(columns.tolist(), rows.tolist(), strict=True))
    good: list[float] = []
    right = 0
    for part, (wanted_kind, mask) in enumerate(zip(goal.classes, goal.masks, strict=True)):
        volume = float(mask.sum()) * (2 * spacing_mm) ** 3 / 1000
        size = "small" if volume < SMALL_ML else "large"
        name = f"{list(LesionClass)[int(wanted_kind)].display_name}, {size}"
        counts[f"{name}|there"] += 1
        query = pair.get(part)
        enough = 0.5 if size == "large" and int(wanted_kind) == 0 else 1e-6
        same = query is not None and int(kind[sure][query]) == int(wanted_kind)
        if same and query is not None and float(union[query, part]) >= enough:
            counts[f"{name}|found"] += 1
            right += 1
            if int(wanted_kind) == 0:
                good.append(float(dice[query, part]))
    counts["queries|there"] += int(sure.sum())
    counts["queries|found"] += right
    return good


def main() -> None:
    """Print one line a kind."""
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    p.add_argument("weights", type=Path, nargs="?")
    p.add_argument("--patients", type=int, default=40)
    a = p.parse_args()
    loaded = weights.load(a.weights) if a.weights else weights.load_shipped()
    network, info = loaded
    counts: Counter[str] = Counter()
    dice: list[float] = []
    for index in range(a.patients):
        dice += examine(network, FIRST_SEED + index, info.spacing_mm, counts)
    for name in sorted({key.split("|")[0] for key in counts}):
        there, found = counts[f"{name}|there"], counts[f"{name}|found"]
        word = "right" if name == "queries" else "found"
        sys.stdout.write(f"{name}: {found} of {there} {word} ({found / max(there, 1):.2f})\n")
    sys.stdout.write(f"tumours found: mean mask Dice {sum(dice) / max(len(dice), 1):.2f}\n")


if __name__ == "__main__":
    main()
