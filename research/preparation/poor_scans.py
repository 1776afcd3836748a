"""Measure the sensitivity and the false alarms of each check for poor scans.

    python -m research.preparation.poor_scans CASE... --synthetic 12 --results RESULTS.md

Each study is prepared once; faults are simulated in its sequences, one at a time. Swapped names
have a table of their own (`preparation/fit_swapped_names.py`).
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.run_context import RunContext
from lesionlens.imaging.preparation.checks import ghosts, quality
from lesionlens.imaging.preparation.prepare import PrepareOptions, prepare
from lesionlens.imaging.preparation.shading import shading_of
from lesionlens.imaging.reading.readers import open_study
from lesionlens.network.synth.generator import GeneratorConfig, draw
from research.common.page import write_block

MARKER = "poor scans"
FIRST_SEED = 900
Images = dict[MrSequence, np.ndarray]
Finding = tuple[str, str, bool]
"""Check, simulated fault (empty for none), and whether the check failed."""


def weaken_lines(values: np.ndarray, weakening: float, every: int, axis: int) -> np.ndarray:
    """Weaken all lines of k-space but every n-th, as periodic motion does."""
    space = np.fft.fft(values, axis=axis)
    index = np.arange(values.shape[axis])
    factor = np.where(index % every, 1 - weakening, 1.0)
    is_central = np.minimum(index, len(index) - index) < max(2, 0.02 * len(index))
    factor[is_central] = 1.0
    shape = [-1 if a == axis else 1 for a in range(3)]
    image = np.abs(np.fft.ifft(space * factor.reshape(shape), axis=axis))
    return (image * (values > 0)).astype(np.float32)


def add_copy(values: np.ndarray, weight: float, parts: int, axis: int) -> np.ndarray:
    """Add a weaker copy, shifted by a fraction of the field of view."""
    copy = np.roll(values, values.shape[axis] // parts, axis)
    return ((values + weight * copy) * (values > 0)).astype(np.float32)


def add_shading(values: np.ndarray, brain: np.ndarray, ratio: float, axis: int) -> np.ndarray:
    """Apply a smooth shading along an axis: the ratio between the sides of the brain."""
    low, high = np.percentile(np.argwhere(brain)[:, axis], (2, 98))
    along = (np.arange(values.shape[axis]) - low) / (high - low) - 0.5
    shape = [-1 if a == axis else 1 for a in range(3)]
    factor = ratio ** -along.clip(-0.7, 0.7).reshape(shape)
    return np.asarray(values * factor, np.float32)


GHOSTS: dict[str, tuple[int, Callable[[np.ndarray, int], np.ndarray]]] = {
    "three of four lines of k-space 30% weaker": (1, lambda v, a: weaken_lines(v, 0.3, 4, a)),
    "every 2nd line 20% weaker": (1, lambda v, a: weaken_lines(v, 0.2, 2, a)),
    "a copy of 5%, a quarter off": (1, lambda v, a: add_copy(v, 0.05, 4, a)),
    "a copy of 10%, a quarter off": (1, lambda v, a: add_copy(v, 0.1, 4, a)),
    "a copy of 20%, a third off, left to right": (0, lambda v, a: add_copy(v, 0.2, 3, a)),
}
"""Axis and simulation of each ghosting fault."""


def findings(full: Images, brain: np.ndarray, grid: Grid) -> Iterator[Finding]:
    """Yield the outcome of each check for the study as it is, and for each fault."""
    yield "cut brain", "", quality.cut_off(brain, 1.0) is not None
    levels = np.flatnonzero(brain.any(axis=(0, 1)))
    for missing_fraction in (0.1, 0.25):
        cropped = brain.copy()
        cropped[:, :, round(levels[-1] - missing_fraction * len(levels)) :] = False
        yield (
            "cut brain",
            f"upper {missing_fraction:.0%} missing",
            quality.cut_off(cropped, 1.0) is not None,
        )
    images = {s: values[::2, ::2, ::2] for s, values in full.items()}
    brain = brain[::2, ::2, ::2]
    clean = shading_of(images, brain)
    for sequence, values in images.items():
        yield from _sequence_findings(full[sequence], grid)
        inside = values[brain]
        for limit in (98, 95):
            clipped = np.minimum(values, np.percentile(inside, limit)).astype(np.float32)
            failed = not quality.saturation({sequence: (clipped, grid)}).passed
            yield "saturation", f"bright end cut at percentile {limit}", failed
        if sequence not in clean:
            continue
        yield "shading", "", clean[sequence].field is not None
        for ratio in (1.5, 2.0, 2.5):
            for axis in range(3):
                shaded_images = {sequence: add_shading(values, brain, ratio, axis)}
                has_shading = shading_of(shaded_images, brain)[sequence].field is not None
                yield "shading", f"{ratio} : 1 in one sequence, 3 ways", has_shading
    if {MrSequence.T1, MrSequence.T1C} <= images.keys():
        t1, t1c = images[MrSequence.T1], images[MrSequence.T1C]
        pairs = {"": (t1, t1c), "T1 and T1c swapped": (t1c, t1), "T1c shows no agent": (t1, t1)}
        for name, (before, after) in pairs.items():
            noise = np.random.default_rng(0).normal(0, 0.03 * np.median(t1[brain]), t1.shape)
            noisy: np.ndarray = after + noise if name.endswith("agent") else after
            check = quality.contrast_agent({MrSequence.T1: before, MrSequence.T1C: noisy}, brain)
            yield "contrast", name, check is not None and not check.passed


def _sequence_findings(values: np.ndarray, grid: Grid) -> Iterator[Finding]:
    yield "saturation", "", not quality.saturation({MrSequence.T1: (values, grid)}).passed
    yield "ghosts", "", ghosts.ghost_strength(values) > ghosts.GHOST
    for name, (axis, add_ghost) in GHOSTS.items():
        lines = values[tuple(slice(None, None, None if a == axis else 4) for a in range(3))]
        strength = ghosts.ghost_strength(add_ghost(lines, axis), 1)
        yield "ghosts", name, strength > ghosts.GHOST


def real_study(folder: Path) -> tuple[Images, np.ndarray, Grid]:
    """Return images, brain and grid of a real study, before bias field correction."""
    prepared = prepare(open_study(folder), RunContext(), PrepareOptions(sides=False))
    images = {s: prepared.channels[i] for i, s in enumerate(MrSequence) if prepared.present[i]}
    return images, prepared.brain, prepared.working


def synthetic_study(seed: int) -> tuple[Images, np.ndarray, Grid]:
    """Return images, brain and grid of a synthetic head."""
    batch = draw(GeneratorConfig(), [seed])
    brain = batch.brain[0].numpy()
    images = {s: v * brain for s, v in zip(MrSequence, batch.channels[0].numpy(), strict=True)}
    return images, brain, Grid(brain.shape, np.eye(4))


def table(real_counts: Counter[Finding], synthetic_counts: Counter[Finding]) -> str:
    """Return a Markdown table of how often each check failed."""
    lines = ["| check | simulated fault | real | synthetic |", "|---|---|---|---|"]
    for check, name in dict.fromkeys((c, n) for c, n, _ in (*real_counts, *synthetic_counts)):
        cells = []
        for counts in (real_counts, synthetic_counts):
            failed, passed = counts[check, name, True], counts[check, name, False]
            cells.append(f"{failed} of {failed + passed}")
        lines.append(f"| {check} | {name or 'none: false alarms'} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure all studies; print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("cases", nargs="*", type=Path)
    parser.add_argument("--synthetic", type=int, default=0)
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    counts: tuple[Counter[Finding], Counter[Finding]] = (Counter(), Counter())
    for case in options.cases:
        case_findings = list(findings(*real_study(case)))
        counts[0].update(case_findings)
        print(case.name, [f for f in case_findings if f[2] and not f[1]], flush=True)
    for number in range(options.synthetic):
        counts[1].update(findings(*synthetic_study(FIRST_SEED + number)))
        print("synthetic", number, flush=True)
    text = table(*counts)
    print(text)
    if options.results:
        write_block(options.results, MARKER, text)


if __name__ == "__main__":
    main()
