"""How many cases must be read to reach the same Dice: as `suggest` orders them, and at random.

    python research/suggest_order.py runs/suggest [--pool 24] [--steps 40] [--orders 4] [--seeds 2]

A drawn site: most patients as the generator draws them, some from another scanner of lower field
strength (noisier, blurred, contrast pressed together), which the network has never seen. The
smallest network learns ordinary brains at 6 mm first; that stands for the weights in use. Then it
reads K patients of the site in one order or the other, is trained on with drawn brains mixed in,
and is judged on patients of the site that nobody reads, half of them of the other scanner. Small
grids, few steps: an experiment about the order, not about the Dice.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool3d

from lesionlens.imaging.reading.image_features import brightness
from lesionlens.network import weights
from lesionlens.network.model import LensNetwork
from lesionlens.network.normalise import with_presence, zscore
from lesionlens.network.synth.draw import DrawConfig, SyntheticBatch, draw
from lesionlens.training.config import (
    DataConfig,
    OptimiserConfig,
    StageConfig,
    TrainConfig,
)
from lesionlens.training.data import VALIDATION_SEED, BatchSource, mixed, pack
from lesionlens.training.kept_volumes import FolderSource, Start, keep, read
from lesionlens.training.learning.order import Card, expected_loss, order
from lesionlens.training.loop import TrainOptions, train
from lesionlens.training.validate import dice

MM, SHAPE = 6.0, (28, 36, 28)
DRAW = DrawConfig(shape=SHAPE, spacing_mm=(MM, MM), tumour_free=0.0)
STAGE = StageConfig(1, SHAPE, (MM, MM), batch=1, rate=(1.0, 0.1))
SITE, TEST, KEPT = VALIDATION_SEED + 600_000_000, VALIDATION_SEED + 610_000_000, 1_600_000_000
SHARE_OF_OTHER = 0.25
VIEWS = (0, 1, 2, 3)
"""Sequences left out, one a view, beside all of them and mirrored."""


@dataclass(frozen=True)
class SitePatient:
    """One drawn patient, kept on disk."""

    file: Path
    other_scanner: bool


def low_field(drawn: SyntheticBatch, seed: int) -> Tensor:
    """Return (1, 4, I, J, K) channels as another scanner gives them: blurred, flat, noisy."""
    rng = torch.Generator().manual_seed(seed)
    image, brain = drawn.channels, drawn.brain[:, None]
    blurred = 0.5 * image + 0.5 * avg_pool3d(image, 3, 1, 1)
    low, high = blurred[brain.expand_as(blurred)].quantile(torch.tensor([0.02, 0.98]))
    flat = ((blurred - low) / (high - low)).clamp(0, 1.2) ** 2.2
    noisy = (flat + 0.10 * torch.randn(flat.shape, generator=rng)).abs()
    return noisy * brain


def draw_site(folder: Path, first: int, count: int, share: float) -> list[SitePatient]:
    """Draw a site's patients, a share of them by the other scanner, and keep them."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for n in range(count):
        other = int((n + 1) * share) > int(n * share)
        file = folder / f"{n:03d}.npz"
        if not file.is_file():
            drawn = draw(DRAW, [first + n])
            seen = zscore(low_field(drawn, first + n), drawn.brain) if other else drawn.zscored
            packed = pack(seen[0], drawn.labels[0], drawn.instances[0], drawn.brain[0])
            keep(packed, file)
        found.append(SitePatient(file, other))
    return found


@dataclass(frozen=True)
class Reviews:
    """Cases of the bench in the place of reviewed ones; see `training.loop.Cases`."""

    files: tuple[Path, ...]
    drawn: tuple[Path, ...]
    words: str = "drawn site"

    def source(self, stage: StageConfig, config: DataConfig, seed: int, done: int) -> BatchSource:
        """Serve what was read, varied, with drawn brains mixed in."""
        return mixed(
            lambda n: FolderSource(self.files, stage, config, Start(seed, n), MM),
            lambda n: FolderSource(self.drawn, stage, config, Start(seed, n)),
            config.drawn_share,
            seed,
            done,
        )

    def validate(self, *_: object) -> dict[str, float]:
        """Judge nothing on the way."""
        return {}


def recipe(steps: int, init: Path | None, seed: int) -> TrainConfig:
    """Return a recipe of the smallest network."""
    return TrainConfig(
        stages=(replace(STAGE, steps=steps),),
        network="tiny" if init is None else None,
        seed=seed,
        checkpoint_minutes=1e6,
        validation_volumes=0,
        init=None if init is None else str(init),
        optimiser=OptimiserConfig(
            rate=4e-3 if init is None else 3e-3, warmup=5, average=0.98 if init is None else 0.8
        ),
        data=DataConfig(workers=0, pool=200, paintings=2, complete=0.8, drawn_share=0.3),
    )


@torch.no_grad()
def probability(
    network: LensNetwork, channels: Tensor, brain: Tensor, hidden: int | None
) -> Tensor:
    """Return (I, J, K) whole-tumour probability with a sequence hidden or none."""
    present = torch.ones(1, 4)
    if hidden is not None:
        present[0, hidden] = 0
    x = with_presence(channels, present, brain).contiguous(memory_format=torch.channels_last_3d)
    return network(x).logits[0, 0].sigmoid() * brain[0]


def card(network: LensNetwork, patient: SitePatient) -> Card:
    """Return what `suggest` knows of a patient, from the network's own answers and the images."""
    packed = read(patient.file)
    code = torch.from_numpy(packed.code)
    channels = torch.from_numpy(packed.channels).float()[None]
    brain = (code > 0)[None]
    whole = probability(network, channels, brain, None)
    flipped = probability(network, channels.flip(2), brain.flip(1), None).flip(0)
    views = torch.stack(
        [whole, flipped, *(probability(network, channels, brain, v) for v in VIEWS)]
    )
    undecided = 1 - (2 * views.mean(0) - 1).abs()
    found, ml = (whole > 0.5).numpy(), MM**3 / 1000
    disputed = undecided.numpy() >= 0.5
    both = np.count_nonzero(disputed | found) * ml
    features = {"ml": float(np.log1p(found.sum() * ml))}
    for n, name in enumerate(("T1", "T1c", "T2", "FLAIR")):
        positive = (channels[0, n] + 6).numpy() * brain[0].numpy()
        features |= {f"{name} {key}": value for key, value in brightness(positive).items()}
    return Card(
        patient.file.stem,
        expected_loss(whole.numpy(), found, ml),
        np.count_nonzero(disputed) * ml / (both + 1.0),
        features,
    )


def mean_dice(network: LensNetwork, patients: Sequence[SitePatient]) -> list[float]:
    """Return the whole tumour's Dice of each patient."""
    scores = []
    for patient in patients:
        packed = read(patient.file)
        code = torch.from_numpy(packed.code)
        channels = torch.from_numpy(packed.channels).float()[None]
        scores.append(dice(probability(network, channels, (code > 0)[None], None) > 0.5, code > 1))
    return scores


def needed(curve: dict[int, float], wanted: float) -> float | None:
    """Return the number of cases at which a curve first reaches a Dice, linear in between."""
    before = None
    for count in sorted(curve):
        if curve[count] >= wanted:
            if before is None:
                return float(count)
            share = (wanted - curve[before]) / (curve[count] - curve[before])
            return before + share * (count - before)
        before = count
    return None


def asked() -> argparse.Namespace:
    """Read the command line."""
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    p.add_argument("out", type=Path)
    p.add_argument("--pool", type=int, default=24)
    p.add_argument("--test", type=int, default=24)
    p.add_argument("--drawn", type=int, default=24, help="ordinary brains")
    p.add_argument("--base-steps", type=int, default=200)
    p.add_argument("--steps", type=int, default=40)
    p.add_argument("--orders", type=int, default=4, help="random ones; 0 trains nothing on")
    p.add_argument("--seeds", type=int, default=2, help="of training, for the suggested order")
    p.add_argument("--read", type=int, nargs="+", default=[2, 4, 8],
                   help="how many; 0 is as many steps on drawn brains alone")  # fmt: skip
    p.add_argument("--only", nargs="+", help="orders of this process, such as suggest, 'random 0'")
    return p.parse_args()


def main() -> None:
    """Run it; what is there already is not computed again."""
    a = asked()
    torch.set_num_threads(1)
    begun = time.process_time()
    ordinary = tuple(one.file for one in draw_site(a.out / "drawn", KEPT, a.drawn, 0.0))
    start = Reviews(ordinary, ordinary)
    base = train(recipe(a.base_steps, None, 5), a.out / "base", TrainOptions(cases=start)).weights
    pool = draw_site(a.out / "pool", SITE, a.pool, SHARE_OF_OTHER)
    test = draw_site(a.out / "test", TEST, a.test, 0.5)
    network, _ = weights.load(base)
    scores = mean_dice(network, test)
    other = [one.other_scanner for one in test]
    print(
        f"{time.process_time() - begun:.0f} CPU s; before reading: {summarise(scores, other)}",
        flush=True,
    )
    by_name = {one.file.stem: one for one in pool}
    cards = {one.file.stem: card(network, one) for one in pool}
    orders = {"suggest": [s.card.name for s in order(list(cards.values()), [])]}
    summary_before = dict(zip(by_name, mean_dice(network, pool), strict=True))
    print(first_of(orders["suggest"], summary_before, by_name), flush=True)
    for seed in range(a.orders):
        names = sorted(by_name)
        np.random.default_rng(seed).shuffle(names)
        orders[f"random {seed}"] = names
    if not a.orders:
        return
    rows = []
    for count in a.read:
        for at, (name, names) in enumerate(orders.items()):
            if a.only and name not in a.only:
                continue
            chosen = [by_name[n] for n in names[:count]]
            for seed in range(a.seeds) if name == "suggest" else [at % a.seeds]:
                out = a.out / f"{name.replace(' ', '-')}-{count}-{seed}"
                cases = Reviews(tuple(one.file for one in chosen) or ordinary, ordinary)
                done = train(recipe(a.steps, base, 11 + seed), out, TrainOptions(cases=cases))
                scores = mean_dice(weights.load(done.weights)[0], test)
                new = sum(one.other_scanner for one in chosen)
                rows.append({"order": name, "read": count, "dice": scores, "other": new})
                print(f"{time.process_time() - begun:.0f} CPU s; {name}, {count} read, {new} of "
                      f"the other scanner: {summarise(scores, other)}", flush=True)  # fmt: skip
    if a.only:
        return
    (a.out / "rows.json").write_text(json.dumps({"other": other, "rows": rows}, indent=1))
    curves: dict[str, dict[int, float]] = {}
    for kind in ("suggest", "random"):
        curves[kind] = {
            count: float(np.mean([r["dice"] for r in rows
                                  if str(r["order"]).startswith(kind) and r["read"] == count]))
            for count in a.read
        }  # fmt: skip
    print(json.dumps(curves, indent=1))
    wanted = curves["random"][max(a.read)]
    print(f"Dice of random order at {max(a.read)} read: {wanted:.3f}; in the suggested order "
          f"reached with {needed(curves['suggest'], wanted)}")  # fmt: skip


def first_of(
    names: Sequence[str], dice_of: dict[str, float], patients: dict[str, SitePatient]
) -> str:
    """Report whom the order puts first: how well outlined already, and of which scanner."""
    lines = [f"pool: Dice {np.mean(list(dice_of.values())):.3f} before reading"]
    for count in (3, 5, 10):
        some = names[:count]
        other = sum(patients[name].other_scanner for name in some)
        mean = np.mean([dice_of[name] for name in some])
        lines.append(f"first {count}: Dice {mean:.3f}, {other} of the other scanner")
    return "; ".join(lines)


def summarise(scores: Sequence[float], other: Sequence[bool]) -> str:
    """Write the mean Dice over all, and by scanner."""
    values, mask = np.asarray(scores), np.asarray(other)
    return (
        f"Dice {values.mean():.3f} (ordinary {values[~mask].mean():.3f}, other scanner "
        f"{values[mask].mean():.3f})"
    )


if __name__ == "__main__":
    main()
