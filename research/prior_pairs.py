"""How true a comparison with a prior examination is, on drawn pairs of known growth.

    python research/prior_pairs.py OUT [--pairs 20] [--network 6] [--first 0] [--one-scanner]

Each pair is one synthetic brain twice: the lesions' radii scaled, other contrasts and noise, the
head moved by up to 10 mm and 8 degrees, other slices; of `--one-scanner` the same contrasts and
slices, with other noise, field and artefacts, and volumes that change by -30 to +60 %. Known are
both truths and the movement. The truth path takes the drawn masks through registration, matching
and measures; the network path (for the first few pairs, as it is slow) analyses both scans.
Printed: error of the alignment over the brain, share of lesions matched, error of the change of
volume (now by before) of lesions above 1 ml, by the outlines and by one criterion for both.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.phantoms.acquire import Acquisition, acquire
from tests.phantoms.analysis import make_analysis
from tests.phantoms.files import write_nifti

from lesionlens.analysis.findings.candidates import Context, Evidence, describe
from lesionlens.analysis.findings.components import draw_components
from lesionlens.analysis.followup.compare import compare
from lesionlens.analysis.followup.patient import Examination
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.records.analysis import Analysis, Volumes
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.followup import Change
from lesionlens.base.run_context import RunContext
from lesionlens.engines.testing.simple import SyntheticPatient
from lesionlens.imaging.preparation.prepare import PrepareOptions, prepare
from lesionlens.imaging.reading.readers import open_study
from lesionlens.network.synth import draw as drawing
from lesionlens.network.synth import tumour
from lesionlens.network.synth.artefacts import Damage
from lesionlens.network.synth.draw import DrawConfig, draw_geometry, paint
from lesionlens.network.synth.fields import RandomStreams
from lesionlens.results.lens import Lens
from lesionlens.results.review.prior import Prior
from lesionlens.training.data import VALIDATION_SEED

FIRST_SEED = VALIDATION_SEED + 840_000_000
EDGE_MM = 2.0
GRID = DrawConfig(
    (96, 114, 90), (EDGE_MM, EDGE_MM), tumour_free=0.0, cavity=0.0, damage=Damage(shift_mm=0.0)
)
"""No sequence lies beside the anatomy that was drawn: the alignment is held to its place."""
SEQUENCES = (MrSequence.T1C, MrSequence.FLAIR)
NOW = Acquisition("LPS", (1.0, 1.0, 2.0))
THEN = Acquisition("LPS", (1.0, 1.0, 3.0))
LARGE_ML = 1.0
DRAWN_ML = EDGE_MM**3 / 1000
TOP = 1000.0


@dataclass(frozen=True, slots=True, eq=False)
class SyntheticBatch:
    """One examination as it was drawn, and the head's movement (RAS+ mm, own to moved)."""

    patient: SyntheticPatient
    moved: NDArray[np.float64]


def drawn(
    seed: int, scale: float, round_: int, moved: NDArray[np.float64], *, one_scanner: bool = False
) -> SyntheticBatch:
    """Draw one examination of a patient with lesions of scaled radius."""
    plan, scan = tumour.plan_lesions, drawing.acquire

    def scaled(*args: object, **kwargs: object) -> tumour.LesionPlan:
        made = plan(*args, **kwargs)  # type: ignore[arg-type]
        return replace(made, radius=made.radius * scale)

    drawing.lesions.plan_lesions = scaled  # type: ignore[assignment]
    try:
        geometry = draw_geometry(GRID, [seed])
    finally:
        drawing.lesions.plan_lesions = plan
    if one_scanner:
        drawing.acquire = partial(scanned_again, scan, seed, round_)  # type: ignore[assignment]
    try:
        made = paint(GRID, geometry, [seed], 0 if one_scanner else round_)
    finally:
        drawing.acquire = scan
    affine = np.diag([EDGE_MM, EDGE_MM, EDGE_MM, 1.0])
    affine[:3, 3] = -EDGE_MM / 2 * (np.asarray(GRID.shape) - 1)
    grid = Grid(GRID.shape, moved @ affine)
    channels = made.channels[0].numpy()
    nested = made.labels[0].numpy()
    labels = np.zeros(GRID.shape, np.uint8)
    for region, value in ((Region.WT, 2), (Region.TC, 1), (Region.ET, 3)):
        labels[nested[list(Region).index(region)] > 0] = value
    images = {
        s: Volume((channels[n] * TOP / np.percentile(channels[n], 99.9)).astype(np.float32), grid)
        for n, s in enumerate(MrSequence)
    }
    patient = SyntheticPatient(
        images, Volume(labels, grid), Volume(made.brain[0].numpy(), grid), seed
    )
    return SyntheticBatch(patient, moved)


def scanned_again(scan: Callable[..., object], seed: int, round_: int, *rest: object) -> object:
    """Scan with noise, field and artefacts of its own; `rest` as `artefacts.acquire` takes it."""
    streams = RandomStreams([seed], torch.device("cpu"), stream=70 + round_)
    return scan(streams if round_ else rest[0], *rest[1:])


def movement(seed: int) -> NDArray[np.float64]:
    """Return a turn of up to 8 degrees about each axis and a shift of up to 10 mm."""
    rng = np.random.default_rng(seed)
    out = np.eye(4)
    for axis, angle in enumerate(np.deg2rad(rng.uniform(-8, 8, 3) / np.sqrt(3))):
        a, b = [k for k in range(3) if k != axis]
        turn = np.eye(4)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        out = turn @ out
    shift = rng.normal(size=3)
    out[:3, 3] = shift / np.linalg.norm(shift) * rng.uniform(2, 10)
    return out


def with_truth(one: SyntheticBatch, folder: Path, how: Acquisition) -> Analysis:
    """Return the analysis of a perfect engine: prepared as any study, measured from the truth."""
    write_nifti(one.patient, folder, sequences=SEQUENCES, how=how)
    study = open_study(folder)
    prepared = prepare(study, RunContext(), PrepareOptions(sides=False))
    truth = acquire(one.patient.labels, how).data
    regions = {r: np.isin(truth, r.labels).astype(np.float32) for r in Region}
    marked = draw_components(regions, prepared.native)
    context = Context(regions[Region.WT], None, has_t1c=True, identity=str(folder))
    findings = describe(marked, Evidence([0.9] * marked.count), context)
    volumes = Volumes(Volume(marked.labels, prepared.native), {}, {})
    run = make_analysis(one.patient, study).run
    return Analysis(study, prepared, None, volumes, findings, run)


def alignment_error(found: Analysis, now: SyntheticBatch, then: SyntheticBatch) -> float:
    """Return the largest of the brain's 95 % smallest errors of the alignment, mm."""
    brain = now.patient.brain
    points = brain.grid.to_mm(np.argwhere(brain.data)[::997])
    true = then.moved @ np.linalg.inv(now.moved)
    assert found.followup is not None
    matrix = np.asarray(found.followup.alignment.matrix)
    apart = [(m[:3, :3] @ points.T + m[:3, 3:]).T for m in (true, matrix)]
    return float(np.percentile(np.linalg.norm(apart[0] - apart[1], axis=1), 95))


def true_volumes(one: SyntheticBatch, perfect: Analysis, found: Analysis) -> dict[int, float]:
    """Return the drawn volume (ml) of the whole lesion that each candidate lies on most.

    `perfect` knows the lesions of the truth; 0 where a candidate lies on none.
    """
    drawn_at = one.patient.labels.grid.to_mm(np.argwhere(one.patient.labels.data > 0))
    lesion, candidate = (
        _ids_at(drawn_at, a.findings.components, a.prepared.native) for a in (perfect, found)
    )
    volumes = {}
    for number in range(1, len(found.findings.candidates) + 1):
        under = np.bincount(lesion[candidate == number], minlength=2)
        best = int(under[1:].argmax()) + 1
        volumes[number] = float(np.count_nonzero(lesion == best)) * DRAWN_ML if under[best] else 0.0
    return volumes


def _ids_at(
    points: NDArray[np.float64], components: NDArray[np.int32], grid: Grid
) -> NDArray[np.int32]:
    index = np.rint(grid.to_voxel(points)).astype(int)
    inside = np.all((index >= 0) & (index < grid.shape), axis=1)
    ids = np.zeros(len(points), np.int32)
    ids[inside] = components[tuple(index[inside].T)]
    return ids


@dataclass(slots=True)
class Tally:
    """What came of one path."""

    errors_mm: list[float]
    matched: int = 0
    pairs: int = 0
    wrong_percent: list[float] | None = None
    joint_percent: list[float] = field(default_factory=list)
    """Of the change by one criterion for both, where it was measured."""
    kept: int = 0
    """How many of these lie within their own ±."""


def count(
    tally: Tally,
    scans: tuple[SyntheticBatch, SyntheticBatch],
    perfect: tuple[Analysis, Analysis],
    found: Analysis,
    prior: Analysis,
) -> None:
    """Add one pair: every lesion is there twice, so every one should be matched with itself."""
    now, then = scans
    assert found.followup is not None
    tally.errors_mm.append(alignment_error(found, now, then))
    true_now = true_volumes(now, perfect[0], found)
    true_then = true_volumes(then, perfect[1], prior)
    changes = found.followup.changes
    real = [c for c in changes if c.now is None or true_now.get(c.now.id, 0) > 0]
    real = [c for c in real if c.before is None or true_then.get(c.before.id, 0) > 0]
    tally.pairs += len(real)
    tally.matched += sum(c.kind == "matched" for c in real)
    for change in real:
        if change.before is None or change.now is None:
            continue
        before, after = true_then[change.before.id], true_now[change.now.id]
        if min(before, after) >= LARGE_ML and change.volume_percent is not None:
            true = 100 * (after - before) / before
            error = 100 * abs((100 + change.volume_percent) / (100 + true) - 1)
            (tally.wrong_percent if tally.wrong_percent is not None else []).append(error)
            words = "" if change.joint is None else change.joint.text
            print_line(
                f"    {before:.1f} ml: {true:+.1f} % drawn, {change.volume_percent:+.1f} % by "
                f"outlines, by one criterion {words}"
            )
            count_joint(tally, change, true)


def count_joint(tally: Tally, change: Change, true: float) -> None:
    """Add a change by one criterion, where there is one."""
    joint = change.joint
    if joint is None or joint.percent is None or joint.plus_minus is None:
        return
    tally.joint_percent.append(100 * abs((100 + joint.percent) / (100 + true) - 1))
    tally.kept += abs(joint.percent - true) <= joint.plus_minus


def pairs(
    number: int, first: int = 0, *, one_scanner: bool = False
) -> Iterator[tuple[int, SyntheticBatch, SyntheticBatch]]:
    """Yield pairs with lesions that grow or shrink."""
    for seed in range(FIRST_SEED + first, FIRST_SEED + first + number):
        rng = np.random.default_rng(seed)
        scale = (1 + rng.uniform(-0.3, 0.6)) ** (1 / 3) if one_scanner else rng.uniform(0.85, 1.2)
        now = drawn(seed, float(scale), 1, np.eye(4), one_scanner=one_scanner)
        yield seed, now, drawn(seed, 1.0, 0, movement(seed), one_scanner=one_scanner)


def print_line(words: str) -> None:
    """Print at once."""
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


def summarise(name: str, tally: Tally) -> None:
    """Print the figures of a path."""
    wrong = tally.wrong_percent or [float("nan")]
    print_line(
        f"{name}: alignment median {np.median(tally.errors_mm):.2f}, worst "
        f"{max(tally.errors_mm):.2f} mm; matched {tally.matched} of {tally.pairs}; volume now by "
        f"volume before off by median {np.median(wrong):.1f} %, worst {max(wrong):.1f} %, within "
        f"3 %: {sum(w <= 3 for w in wrong)} of {len(wrong)} lesions"
    )
    joint = tally.joint_percent or [float("nan")]
    print_line(
        f"{name}, by one criterion: {len(tally.joint_percent)} measured, median "
        f"{np.median(joint):.1f} %, mean {np.mean(joint):.1f} %, worst {max(joint):.1f} %, within "
        f"10 %: {sum(w <= 10 for w in joint)}, within its own ±: {tally.kept}"
    )


def main() -> None:
    """Print one line a lesion, then one a path."""
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    p.add_argument("out", type=Path, help="folder for the drawn scans")
    p.add_argument("--pairs", type=int, default=20)
    p.add_argument("--first", type=int, default=0, help="how many seeds to pass over")
    p.add_argument("--network", type=int, default=6, help="pairs that the network analyses too")
    p.add_argument("--one-scanner", action="store_true", help="the same contrasts and slices")
    a = p.parse_args()
    before_how = NOW if a.one_scanner else THEN
    torch.set_num_threads(1)
    truth, network = Tally([], wrong_percent=[]), Tally([], wrong_percent=[])
    lens = Lens("cpu") if a.network else None
    for number, (seed, now, then) in enumerate(pairs(a.pairs, a.first, one_scanner=a.one_scanner)):
        place = a.out / str(seed)
        first = with_truth(then, place / "then", before_how)
        second = with_truth(now, place / "now", NOW)
        visit, before = Examination("drawn", "2026-03-01"), Examination("drawn", "2026-01-01")
        found = compare(second, visit, Prior(before, first))
        print_line(f"{seed} truth: {alignment_error(found, now, then):.2f} mm")
        count(truth, (now, then), (second, first), found, first)
        if lens is not None and number < a.network:
            one, two = (lens(x.study).analysis for x in (first, second))
            again = compare(two, visit, Prior(before, one))
            print_line(f"{seed} network: {alignment_error(again, now, then):.2f} mm")
            count(network, (now, then), (second, first), again, one)
    summarise("truth", truth)
    if network.errors_mm:
        summarise("network", network)


if __name__ == "__main__":
    main()
