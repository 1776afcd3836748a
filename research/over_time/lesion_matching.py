"""Measure how often lesions are matched between two examinations, on synthetic pairs; no network.

    python -m research.over_time.lesion_matching [--pairs 40] [--first 0] [--off-mm 1.0]

Each pair is one synthetic brain with two to eight lesions, at two times: every lesion grows or
shrinks independently (radius by .6 to 1.5), one in six is new and one in six gone, so that some
merge and some split. The head moves by up to 10 mm and 8 degrees; slices are 3 mm then and 2 mm
now. The alignment is the true motion with an error of `--off-mm` in a random direction, the
largest error of the registration (`over_time/prior_pairs.py`).

Counted by true lesion, whatever it merged with: a lesion present twice is right if the candidates
that contain it are linked (the same, merged or split); one present once, in a candidate of its own,
if that candidate is called new or gone. False links join candidates that share no true lesion; a
lone fragment of a true lesion counts as that lesion.
"""

from __future__ import annotations

import argparse
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
from research.common.progress import print_line
from research.over_time.prior_pairs import random_motion

FIRST_SEED = FIRST_VALIDATION_SEED + 850_000_000
EDGE_MM = 3.0
GRID = GeneratorConfig((64, 76, 60), (EDGE_MM, EDGE_MM), tumour_free=0.0, cavity=0.0)
CURRENT_ACQUISITION, PRIOR_ACQUISITION = (
    Acquisition("LPS", (1.0, 1.0, 2.0)),
    Acquisition("LPS", (1.0, 1.0, 3.0)),
)
MIN_FRACTION = 0.1
"""Fraction of a synthetic lesion's voxels from which a candidate contains it."""


@dataclass(frozen=True, slots=True, eq=False)
class Examination:
    """The candidates of one examination, and the synthetic lesions in each."""

    components: NDArray[np.int32]
    grid: Grid
    lesions_in: dict[int, set[int]]
    main_lesions: dict[int, set[int]]
    """As `lesions_in`; for a fragment below `MIN_FRACTION`, the lesion it overlaps most."""


def synthetic_examination(
    seed: int, scales: NDArray[np.float64], motion: NDArray[np.float64], acquisition: Acquisition
) -> Examination:
    """Generate one examination; lesions of scale 0 are absent."""
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
    synthetic_grid = Grid(GRID.shape, motion @ affine)
    nested = geometry.labels[0].numpy()
    regions = {
        r: acquire(Volume(nested[n], synthetic_grid), acquisition) for n, r in enumerate(Region)
    }
    grid = next(iter(regions.values())).grid
    components = segment_components(
        {r: v.data.astype(np.float32) for r, v in regions.items()}, grid
    )
    lesion_index = np.where(nested[0] > 0, distances[0].nearest[0, 0].numpy() + 1, 0)
    return Examination(
        components.components,
        grid,
        *_lesions_in_candidates(components.components, grid, lesion_index, synthetic_grid),
    )


def _lesions_in_candidates(
    components: NDArray[np.int32], grid: Grid, lesion_index: NDArray[np.int64], synthetic_grid: Grid
) -> tuple[dict[int, set[int]], dict[int, set[int]]]:
    """Return the lesions that each candidate contains, and its main ones."""
    lesions_in: dict[int, set[int]] = {n: set() for n in range(1, int(components.max()) + 1)}
    max_count = dict.fromkeys(lesions_in, 0)
    largest: dict[int, set[int]] = {n: set() for n in lesions_in}
    for lesion in np.unique(lesion_index[lesion_index > 0]).tolist():
        index = np.rint(
            grid.to_voxel(synthetic_grid.to_mm(np.argwhere(lesion_index == lesion)))
        ).astype(int)
        inside = np.all((index >= 0) & (index < grid.shape), axis=1)
        overlap = np.bincount(components[tuple(index[inside].T)], minlength=len(lesions_in) + 1)
        for candidate, lesions in lesions_in.items():
            if overlap[candidate] >= MIN_FRACTION * max(overlap.sum(), 1):
                lesions.add(int(lesion))
            if overlap[candidate] > max_count[candidate]:
                max_count[candidate], largest[candidate] = int(overlap[candidate]), {int(lesion)}
    return lesions_in, {n: lesions or largest[n] for n, lesions in lesions_in.items()}


@dataclass(slots=True)
class MatchCounts:
    """Counts over all pairs."""

    in_both: int = 0
    linked: int = 0
    merged_or_split: int = 0
    in_one: int = 0
    new_or_gone_correct: int = 0
    false_links: int = 0


def count_pair(
    counts: MatchCounts, prior: Examination, current: Examination, links: set[tuple[int, int]]
) -> None:
    """Count the links of one pair."""
    true_links = {
        (a, b)
        for a in prior.lesions_in
        for b in current.lesions_in
        if prior.lesions_in[a] & current.lesions_in[b]
    }
    counts.false_links += sum(not prior.main_lesions[a] & current.main_lesions[b] for a, b in links)
    lesions_before, lesions_after = (
        set().union(*examination.lesions_in.values()) for examination in (prior, current)
    )
    for lesion in lesions_before & lesions_after:
        lesion_links = {
            (a, b) for a, b in true_links if lesion in prior.lesions_in[a] & current.lesions_in[b]
        }
        counts.in_both += 1
        counts.linked += lesion_links <= links
        counts.merged_or_split += any(
            sum(a == x for x, _ in true_links) > 1 or sum(b == y for _, y in true_links) > 1
            for a, b in lesion_links
        )
    for examination, other_lesions, side in (
        (prior, lesions_after, 0),
        (current, lesions_before, 1),
    ):
        for candidate, lesions in examination.lesions_in.items():
            if lesions and not lesions & other_lesions:
                counts.in_one += 1
                counts.new_or_gone_correct += all(link[side] != candidate for link in links)


def pairs(
    first: int, number: int
) -> Iterator[tuple[int, Examination, Examination, NDArray[np.float64]]]:
    """Yield pairs with at least two lesions in the prior, and the true rigid motion."""
    seed, yielded = FIRST_SEED + first, 0
    while yielded < number:
        rng = np.random.default_rng(seed)
        current_scales, prior_scales = rng.uniform(0.6, 1.5, 8), np.ones(8)
        new_or_gone = rng.uniform(size=8)
        prior_scales[new_or_gone < 1 / 6], current_scales[new_or_gone > 5 / 6] = 0.0, 0.0
        motion = random_motion(seed)
        prior = synthetic_examination(seed, prior_scales, np.eye(4), PRIOR_ACQUISITION)
        if len(set().union(*prior.lesions_in.values())) >= 2:
            yielded += 1
            yield (
                seed,
                prior,
                synthetic_examination(seed, current_scales, motion, CURRENT_ACQUISITION),
                np.linalg.inv(motion).astype(float),
            )
        seed += 1


def main() -> None:
    """Print a line for each pair, then the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--first", type=int, default=0, help="number of seeds to skip")
    parser.add_argument("--off-mm", type=float, default=1.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    counts = MatchCounts()
    for seed, prior, current, motion in pairs(options.first, options.pairs):
        error_direction = np.random.default_rng(seed + 1).normal(size=3)
        motion[:3, 3] += options.off_mm * error_direction / np.linalg.norm(error_direction)
        prior_components, current_components = (
            Volume(examination.components, examination.grid) for examination in (prior, current)
        )
        matches = match(prior_components, current_components, motion)
        count_pair(counts, prior, current, {*matches.pairs, *matches.further})
        candidates = len(prior.lesions_in), len(current.lesions_in)
        print_line(f"{seed}: {candidates} candidates in prior and current; so far {counts}")
    print_line(
        f"in both and linked: {counts.linked} of {counts.in_both} ({counts.merged_or_split} "
        f"of them merged or split); in one and called new or gone: {counts.new_or_gone_correct} of "
        f"{counts.in_one}; false links: {counts.false_links}"
    )


if __name__ == "__main__":
    main()
