"""Train the network that looks for small enhancing lesions; resumes where it was.

    python research/small_lesion_training.py POOL --out RUN --minutes 60 [--held-out NAME ...]
    python research/small_lesion_training.py POOL --out RUN --release 0.1

POOL is one of `prompt_pool.py`. RUN keeps the checkpoint and a log; `--release` makes its averaged
weights those of the package.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
import unet_training
from small_lesion_samples import Crop, Head, draw
from torch import Tensor
from torch.nn import functional
from unet_training import WEIGHTS, averaged, release_unet

from lesionlens.network.folded_unet import FoldedUNet
from lesionlens.network.small_lesions import CHANNELS, FORMAT, NAME
from lesionlens.training import checkpoint

SIZE = 64
REAL_SHARE = 0.55
_BIAS = -4.0


def loss_of(logit: Tensor, crop: Crop) -> Tensor:
    """Weighted cross-entropy, and one minus the soft Dice where there is a lesion."""
    target, weight = crop.target[None], crop.weight[None]
    focal = functional.binary_cross_entropy_with_logits(logit, target, reduction="none")
    entropy = (focal * weight).sum() / (target * weight).sum().clamp_min(1500.0)
    share = torch.sigmoid(logit) * weight
    both, total = (share * target).sum(), (share + target * weight).sum()
    if float(target.sum()) < 4:
        return entropy
    return entropy + 0.5 * (1 - (2 * both + 1) / (total + 1))


def crops(heads: list[Head], seed: int) -> Iterator[Crop]:
    """Draw crops without end, one ahead in a thread of its own."""
    real = [head for head in heads if head.real]
    drawn = [head for head in heads if not head.real]

    def one(number: int) -> Crop:
        rng = np.random.default_rng([seed, number])
        some = real if real and rng.random() < REAL_SHARE else drawn
        return draw(some[int(rng.integers(len(some)))], SIZE, rng)

    with ThreadPoolExecutor(1) as pool:
        number = seed
        waiting = [pool.submit(one, number + n) for n in range(3)]
        while True:
            number += 1
            waiting.append(pool.submit(one, number + 2))
            yield waiting.pop(0).result()


def train(pool: Path, out: Path, minutes: float, held_out: list[str]) -> None:
    """Train on the heads of a pool."""
    heads = [
        Head(folder)
        for folder in sorted(pool.iterdir())
        if not folder.name.startswith(("anatomy", *held_out))
    ]
    torch.manual_seed(1)
    network = FoldedUNet(CHANNELS).to(memory_format=torch.channels_last_3d)
    torch.nn.init.constant_(network.last.bias, _BIAS)

    def batches(step: int) -> Iterator[unet_training.Batch]:
        for crop in crops(heads, step):
            yield crop.x[None], partial(loss_of, crop=crop)

    unet_training.train(network, batches, out, minutes, average=0.997, warm_up=50)


def release(pool: Path, out: Path, version: str) -> None:
    """Write the averaged weights to the package, with the scans that they were trained on."""
    kept, known = checkpoint.load(out), json.loads((WEIGHTS / "default.json").read_text())
    digests = {f.name: known["trained_on"][f.name] for f in sorted(pool.glob("BraTS*"))}
    about = {"version": version, "steps": kept and int(kept.meta["step"]), "trained_on": digests}
    release_unet(averaged(out, CHANNELS), CHANNELS, NAME, about, FORMAT)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pool", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=45.0)
    parser.add_argument("--held-out", nargs="*", default=[])
    parser.add_argument("--release", metavar="VERSION")
    a = parser.parse_args()
    torch.set_num_threads(1)
    if a.release:
        release(a.pool, a.out, a.release)
        return
    a.out.mkdir(parents=True, exist_ok=True)
    train(a.pool, a.out, a.minutes, a.held_out)


if __name__ == "__main__":
    main()
