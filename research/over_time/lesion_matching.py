"""Measure how often lesions are matched between two examinations, on synthetic pairs; no network.

    python -m research.over_time.lesion_matching [--pairs 40] [--first 0] [--off-mm 1.0]

Each pair is one synthetic brain with two to eight lesions, at two times: every lesion grows or
shrinks independently (radius by .6 to 1.5), one in six is new and one in six gone, so that some
merge and some split. The head moves by up to 10 mm and 8 degrees; slices are 3 mm then and 2 mm
now. The alignment is the true movement with an error of `--off-mm` in a random direction, the
largest error of the registration (`over_time/prior_pairs.py`).

Counted by true lesion, whatever it merged with: a lesion present twice is right if the candidates
that contain it are linked (the same, merged or split); one present once, in a candidate of its own,
if that candidate is called new or gone. False links join candidates that share no true lesion; a
lone fragment of a true lesion counts as that lesion.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from tests.phantoms.acquire import Acquisition, acquire

from lesionlens.analysis.findings.components import segment_components
from lesionlens.analysis.followup.matching import match
from lesionlens.base.grid import Grid
from lesionlens.base.labels import Region
from lesionlens.base.records.arrays import Volume
from lesionlens.network.synth import tumour
from lesionlens.network.synth.generator import GeneratorConfig, generate_geometry
from lesionlens.training.data import FIRST_VALIDATION_SEED
from research.over_time.prior_pairs import movement

FIRST_SEED = FIRST_VALIDATION_SEED + 850_000_000
EDGE_MM = 3.0
GRID = GeneratorConfig((64, 76, 60), (EDGE_MM, EDGE_MM), tumour_free=0.0, cavity=0.0)
NOW, THEN = Acquisition("LPS", (1.0, 1.0, 2.0)), Acquisition("LPS", (1.0, 1.0, 3.0))
MIN_SHARE = 0.1
"""Of a drawn lesion's voxels, from which a candidate holds it."""


@dataclass(frozen=True, slots=True, eq=False)
class Marked:
    """The candidates of one examination, and which drawn lesions each holds."""

    components: NDArray[np.int32]
    grid: Grid
    holds: dict[int, set[int]]
    made_of: dict[int, set[int]]
    """As `holds`; a candidate too small a part of any lesion: the one that it has most of."""


def marked(
    seed: int, scales: NDArray[np.float64], motion: NDArray[np.float64], acquisition: Acquisition
) -> Marked:
    """Draw one examination; a lesion of scale 0 is not there."""
    plan, measure = tumour.plan_lesions, tumour.measure
    distances: list[tumour.Distance] = []

    def scaled(*args: Any, **kwargs: Any) -> tumour.LesionPlan:
        lesion_plan = plan(*args, **kwargs)
        scale_factors = torch.tensor(scales, dtype=lesion_plan.radius.dtype)
        return replace(lesion_plan, radius=(lesion_plan.radius * scale_factors).clamp_min(0.01))

    def measured(*args: Any, **kwargs: Any) -> tumour.Distance:
        distances.append(measure(*args, **kwargs))
        return distances[-1]

    with (
        patch.object(tumour, "plan_lesions", scaled),
        patch.object(tumour, "measure", measured),
    ):
        geometry = generate_geometry(GRID, [seed])
    affine = np.diag([EDGE_MM, EDGE_MM, EDGE_MM, 1.0])
    affine[:3, 3] = -EDGE_MM / 2 * (np.asarray(GRID.shape) - 1)
    drawn_grid = Grid(GRID.shape, motion @ affine)
    nested = geometry.labels[0].numpy()
    regions = {r: acquire(Volume(nested[n], drawn_grid), acquisition) for n, r in enumerate(Region)}
    grid = next(iter(regions.values())).grid
    components = segment_components(
        {r: v.data.astype(np.float32) for r, v in regions.items()}, grid
    )
    lesion_index = np.where(nested[0] > 0, distances[0].nearest[0, 0].numpy() + 1, 0)
    return Marked(
        components.components,
        grid,
        *_lesions_in_candidates(components.components, grid, lesion_index, drawn_grid),
    )


def _lesions_in_candidates(
    components: NDArray[np.int32], grid: Grid, lesion_index: NDArray[np.int64], drawn_grid: Grid
) -> tuple[dict[int, set[int]], dict[int, set[int]]]:
    """Return which drawn lesions each candidate holds, and which it is made of."""
    holds: dict[int, set[int]] = {n: set() for n in range(1, int(components.max()) + 1)}
    max_count = dict.fromkeys(holds, 0)
    largest: dict[int, set[int]] = {n: set() for n in holds}
    for lesion in np.unique(lesion_index[lesion_index > 0]).tolist():
        index = np.rint(
            grid.to_voxel(drawn_grid.to_mm(np.argwhere(lesion_index == lesion)))
        ).astype(int)
        inside = np.all((index >= 0) & (index < grid.shape), axis=1)
        overlap = np.bincount(components[tuple(index[inside].T)], minlength=len(holds) + 1)
        for candidate, lesions in holds.items():
            if overlap[candidate] >= MIN_SHARE * max(overlap.sum(), 1):
                lesions.add(int(lesion))
            if overlap[candidate] > max_count[candidate]:
                max_count[candidate], largest[candidate] = int(overlap[candidate]), {int(lesion)}
    return holds, {n: lesions or largest[n] for n, lesions in holds.items()}


@dataclass(slots=True)
class Tally:
    """What came of all pairs."""

    twice: int = 0
    linked: int = 0
    together: int = 0
    once: int = 0
    named: int = 0
    false_links: int = 0


def count(tally: Tally, then: Marked, now: Marked, links: set[tuple[int, int]]) -> None:
    """Add one pair."""
    true_links = {(a, b) for a in then.holds for b in now.holds if then.holds[a] & now.holds[b]}
    tally.false_links += sum(not then.made_of[a] & now.made_of[b] for a, b in links)
    lesions_before, lesions_after = (
        set().union(*examination.holds.values()) for examination in (then, now)
    )
    for lesion in lesions_before & lesions_after:
        lesion_links = {(a, b) for a, b in true_links if lesion in then.holds[a] & now.holds[b]}
        tally.twice += 1
        tally.linked += lesion_links <= links
        tally.together += any(
            sum(a == x for x, _ in true_links) > 1 or sum(b == y for _, y in true_links) > 1
            for a, b in lesion_links
        )
    for examination, other_lesions, side in ((then, lesions_after, 0), (now, lesions_before, 1)):
        for candidate, lesions in examination.holds.items():
            if lesions and not lesions & other_lesions:
                tally.once += 1
                tally.named += all(link[side] != candidate for link in links)


def pairs(first: int, number: int) -> Iterator[tuple[int, Marked, Marked, NDArray[np.float64]]]:
    """Yield pairs with at least two lesions at one examination, and the true movement."""
    seed, yielded = FIRST_SEED + first, 0
    while yielded < number:
        rng = np.random.default_rng(seed)
        now, then = rng.uniform(0.6, 1.5, 8), np.ones(8)
        new_or_gone = rng.uniform(size=8)
        then[new_or_gone < 1 / 6], now[new_or_gone > 5 / 6] = 0.0, 0.0
        motion = movement(seed)
        prior = marked(seed, then, np.eye(4), THEN)
        if len(set().union(*prior.holds.values())) >= 2:
            yielded += 1
            yield seed, prior, marked(seed, now, motion, NOW), np.linalg.inv(motion).astype(float)
        seed += 1


def main() -> None:
    """Print one line a pair, then the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--first", type=int, default=0, help="how many seeds to pass over")
    parser.add_argument("--off-mm", type=float, default=1.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    tally = Tally()
    for seed, then, now, motion in pairs(options.first, options.pairs):
        error_direction = np.random.default_rng(seed + 1).normal(size=3)
        motion[:3, 3] += options.off_mm * error_direction / np.linalg.norm(error_direction)
        matches = match(then.components, then.grid, now.components, now.grid, motion)
        count(tally, then, now, {*matches.pairs, *matches.further})
        print_line(f"{seed}: {len(then.holds)} then, {len(now.holds)} now; up to here {tally}")
    print_line(
        f"there twice and linked: {tally.linked} of {tally.twice} ({tally.together} of them in "
        f"one that merged or split); there once and called new or gone: {tally.named} of "
        f"{tally.once}; false links: {tally.false_links}"
    )


def print_line(text: str) -> None:
    """Print at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
