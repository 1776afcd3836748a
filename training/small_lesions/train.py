"""Train the network that searches for small enhancing lesions; resumes an interrupted run.

    python -m training.small_lesions.train POOL --out RUN --minutes 60 [--held-out NAME ...]
    python -m training.small_lesions.train POOL --out RUN --minutes 60 --start W.safetensors
    python -m training.small_lesions.train POOL --out RUN --release 0.3 [--start W.safetensors]

POOL is one of `prompts/pool.py`. RUN holds the checkpoint and a log; `--release` adds its averaged
weights to the package.
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
from torch import Tensor
from torch.nn import functional

from lesionlens.base.provenance import sha256_of
from lesionlens.network.unet import FoldedUNet, load_unet
from lesionlens.training import checkpoint
from training import unet
from training.small_lesions.samples import Crop, Head, draw
from training.unet import WEIGHTS, averaged, release_unet

SIZE = 64
CHANNELS = 5
"""Four images and the brain."""
REAL_SHARE = 0.6
_BIAS = -4.0


def loss_of(logit: Tensor, crop: Crop) -> Tensor:
    """Return weighted cross-entropy, plus one minus the soft Dice if there is a lesion."""
    target, weight = crop.target[None], crop.weight[None]
    voxel_entropy = functional.binary_cross_entropy_with_logits(logit, target, reduction="none")
    entropy = (voxel_entropy * weight).sum() / (target * weight).sum().clamp_min(1500.0)
    probability = torch.sigmoid(logit) * weight
    overlap, total = (probability * target).sum(), (probability + target * weight).sum()
    if float(target.sum()) < 4:
        return entropy
    return entropy + 0.5 * (1 - (2 * overlap + 1) / (total + 1))


def crops(heads: list[Head], seed: int) -> Iterator[Crop]:
    """Yield random crops without end, generated ahead in a thread."""
    real = [head for head in heads if head.real]
    synthetic = [head for head in heads if not head.real]

    def draw_crop(number: int) -> Crop:
        rng = np.random.default_rng([seed, number])
        pool_heads = real if real and rng.random() < REAL_SHARE else synthetic
        return draw(pool_heads[int(rng.integers(len(pool_heads)))], SIZE, rng)

    with ThreadPoolExecutor(1) as pool:
        number = seed
        waiting = [pool.submit(draw_crop, number + n) for n in range(3)]
        while True:
            number += 1
            waiting.append(pool.submit(draw_crop, number + 2))
            yield waiting.pop(0).result()


def new_network(start: Path | None) -> FoldedUNet:
    """Return the network of a new run: with the weights in a file, or untrained."""
    if start is not None:
        return load_unet(start, CHANNELS).train()
    torch.manual_seed(1)
    network = unet.channels_last(FoldedUNet(CHANNELS))
    assert network.last.bias is not None
    torch.nn.init.constant_(network.last.bias, _BIAS)
    return network


def train(
    pool: Path, out: Path, minutes: float, held_out: list[str], start: Path | None, rate: float
) -> None:
    """Train on the heads of a pool; a new run starts from the weights `start`, if any."""
    heads = [
        Head(folder)
        for folder in sorted(pool.iterdir())
        if not folder.name.startswith((".", "anatomy", *held_out))
    ]

    def batches(step: int) -> Iterator[unet.Batch]:
        for crop in crops(heads, step):
            yield crop.x[None], partial(loss_of, crop=crop)

    network = new_network(start)
    unet.train(network, batches, out, minutes, average=0.997, warm_up=50, rate=rate)


def check_start(out: Path, start: Path | None) -> None:
    """Refuse initial weights other than those that the run in a folder started from."""
    record, digest = out / "start.json", None if start is None else sha256_of(start)
    if checkpoint.load(out) is None:
        record.write_text(json.dumps(digest) + "\n")
    elif record.exists() and json.loads(record.read_text()) != digest:
        raise SystemExit(f"{out} began with other weights: name those with --start")


def release(pool: Path, out: Path, version: str, start: Path | None) -> None:
    """Add the averaged weights to the package, with a record of their training scans."""
    stored, default_record = (
        checkpoint.load(out),
        json.loads((WEIGHTS / "default.json").read_text()),
    )
    names = sorted({f.name.partition("-")[0] for f in pool.glob("BraTS*")})
    record: dict[str, object] = {
        "version": version,
        "steps": stored and int(stored.meta["step"]),
        "trained_on": {name: default_record["trained_on"][name] for name in names},
    }
    if start is not None:
        before = json.loads(start.with_suffix(".json").read_text())
        record["start"] = {key: before[key] for key in ("version", "steps", "sha256")}
    release_unet(averaged(out, CHANNELS), "small_lesions", record)


def main() -> None:
    """Train, or release the weights of a run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pool", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=45.0)
    parser.add_argument("--held-out", nargs="*", default=[])
    parser.add_argument("--start", type=Path, help="weights that the run starts from")
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--release", metavar="VERSION")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    check_start(options.out, options.start)
    if options.release:
        release(options.pool, options.out, options.release, options.start)
        return
    held_out, start = options.held_out, options.start
    train(options.pool, options.out, options.minutes, held_out, start, options.rate)


if __name__ == "__main__":
    main()
