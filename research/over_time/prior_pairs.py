r"""Measure how accurate a comparison with a prior is, on synthetic pairs of known growth.

    python -m research.over_time.prior_pairs OUT [--pairs 20] [--network 6] [--first 0] \
        [--one-scanner]

Each pair is one synthetic brain twice, with scaled lesion radii, other contrasts and noise, other
slices, and the head moved by up to 10 mm and 8 degrees; with `--one-scanner` the same contrasts and
slices, other noise, bias field and artefacts, and volumes that change by -30 to +60%. Both
references and the motion are known. One path takes the reference masks through registration,
matching and measurement; the other (for the first few pairs, as it is slow) analyses both scans.
Printed: registration error over the brain, share of lesions matched, and error of the change in
volume (now / before) of lesions above 1 ml, by the outlines and by one criterion for both.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from tests.phantoms.acquire import Acquisition, acquire
from tests.phantoms.analysis import make_analysis
from tests.phantoms.files import write_nifti

from lesionlens.analysis.findings.candidates import Evidence, describe
from lesionlens.analysis.findings.components import segment_components
from lesionlens.analysis.followup.compare import compare
from lesionlens.analysis.followup.patient import Examination, Prior
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.records.analysis import Analysis, Volumes
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.followup import Change
from lesionlens.base.records.patient import Patient
from lesionlens.base.run_context import RunContext
from lesionlens.engines.testing.simple import SyntheticPatient
from lesionlens.imaging.preparation.prepare import PrepareOptions, prepare
from lesionlens.imaging.reading.readers import open_study
from lesionlens.network.synth import artefacts as scanners
from lesionlens.network.synth import generator, tumour
from lesionlens.network.synth.artefacts import Damage
from lesionlens.network.synth.fields import RandomStreams
from lesionlens.network.synth.generator import GeneratorConfig, generate_geometry, paint
from lesionlens.results.lens import Lens
from lesionlens.training.data import FIRST_VALIDATION_SEED
from research.common.progress import print_line

FIRST_SEED = FIRST_VALIDATION_SEED + 840_000_000
EDGE_MM = 2.0
GRID = GeneratorConfig(
    (96, 114, 90), (EDGE_MM, EDGE_MM), tumour_free=0.0, cavity=0.0, damage=Damage(shift_mm=0.0)
)
"""Without shifts between the sequences, which would count as errors of the alignment."""
SEQUENCES = (MrSequence.T1C, MrSequence.FLAIR)
CURRENT_ACQUISITION = Acquisition("LPS", (1.0, 1.0, 2.0))
PRIOR_ACQUISITION = Acquisition("LPS", (1.0, 1.0, 3.0))
LARGE_ML = 1.0
VOXEL_ML = EDGE_MM**3 / 1000
TOP = 1000.0


@dataclass(frozen=True, slots=True, eq=False)
class SyntheticExamination:
    """A synthetic examination and the motion of its head, (4, 4) RAS+ mm, original to moved."""

    patient: SyntheticPatient
    motion: NDArray[np.float64]


def synthetic_examination(
    seed: int, scale: float, round_: int, motion: NDArray[np.float64], *, one_scanner: bool = False
) -> SyntheticExamination:
    """Generate one examination of a patient with lesions of scaled radius."""
    plan = tumour.plan_lesions

    def scaled_plan(*args: Any, **kwargs: Any) -> tumour.LesionPlan:
        rendered = plan(*args, **kwargs)
        return replace(rendered, radius=rendered.radius * scale)

    with patch.object(tumour, "plan_lesions", scaled_plan):
        geometry = generate_geometry(GRID, [seed])
    scan = partial(acquire_same_scanner, seed, round_) if one_scanner else scanners.acquire
    with patch.object(generator, "acquire", scan):
        rendered = paint(GRID, geometry, [seed], 0 if one_scanner else round_)
    affine = np.diag([EDGE_MM, EDGE_MM, EDGE_MM, 1.0])
    affine[:3, 3] = -EDGE_MM / 2 * (np.asarray(GRID.shape) - 1)
    grid = Grid(GRID.shape, motion @ affine)
    channels = rendered.channels[0].numpy()
    nested = rendered.labels[0].numpy()
    labels = np.zeros(GRID.shape, np.uint8)
    for region, value in ((Region.WT, 2), (Region.TC, 1), (Region.ET, 3)):
        labels[nested[list(Region).index(region)] > 0] = value
    images = {
        s: Volume((channels[n] * TOP / np.percentile(channels[n], 99.9)).astype(np.float32), grid)
        for n, s in enumerate(MrSequence)
    }
    patient = SyntheticPatient(
        images, Volume(labels, grid), Volume(rendered.brain[0].numpy(), grid), seed
    )
    return SyntheticExamination(patient, motion)


def acquire_same_scanner(
    seed: int, round_: int, streams: RandomStreams, *arguments: Any
) -> torch.Tensor:
    """Simulate another scan on the same scanner: other noise, bias field and artefacts.

    `arguments` are the further arguments of `scanners.acquire`.
    """
    separate = RandomStreams([seed], torch.device("cpu"), stream=70 + round_)
    return scanners.acquire(separate if round_ else streams, *arguments)


def random_motion(seed: int) -> NDArray[np.float64]:
    """Return a rotation of up to 8 degrees and a shift of up to 10 mm, (4, 4)."""
    rng = np.random.default_rng(seed)
    motion = np.eye(4)
    for axis, angle in enumerate(np.deg2rad(rng.uniform(-8, 8, 3) / np.sqrt(3))):
        a, b = [k for k in range(3) if k != axis]
        rotation = np.eye(4)
        rotation[a, a] = rotation[b, b] = np.cos(angle)
        rotation[a, b], rotation[b, a] = -np.sin(angle), np.sin(angle)
        motion = rotation @ motion
    shift = rng.normal(size=3)
    motion[:3, 3] = shift / np.linalg.norm(shift) * rng.uniform(2, 10)
    return motion


def reference_analysis(
    batch: SyntheticExamination, folder: Path, acquisition: Acquisition
) -> Analysis:
    """Return the analysis of a perfect engine: prepared as usual, measured from the reference."""
    write_nifti(batch.patient, folder, sequences=SEQUENCES, how=acquisition)
    study = open_study(folder)
    prepared = prepare(study, RunContext(), PrepareOptions(sides=False))
    reference = acquire(batch.patient.labels, acquisition).data
    regions = {r: np.isin(reference, r.labels).astype(np.float32) for r in Region}
    marked = segment_components(regions, prepared.native)
    evidence = Evidence([0.9] * marked.count, probability=regions)
    findings = describe(marked, evidence, prepared, str(folder))
    volumes = Volumes(Volume(marked.labels, prepared.native), {}, {})
    run = make_analysis(batch.patient, study).run
    return Analysis(study, prepared, None, volumes, findings, run)


def alignment_error(
    analysis: Analysis, now: SyntheticExamination, then: SyntheticExamination
) -> float:
    """Return the 95th percentile of the alignment error over the brain, mm."""
    brain = now.patient.brain
    points = brain.grid.to_mm(np.argwhere(brain.data)[::997])
    reference_motion = then.motion @ np.linalg.inv(now.motion)
    assert analysis.followup is not None
    matrix = np.asarray(analysis.followup.alignment.matrix)
    mapped = [(m[:3, :3] @ points.T + m[:3, 3:]).T for m in (reference_motion, matrix)]
    return float(np.percentile(np.linalg.norm(mapped[0] - mapped[1], axis=1), 95))


def true_volumes(
    batch: SyntheticExamination, perfect: Analysis, analysis: Analysis
) -> dict[int, float]:
    """Return for each candidate the true volume (ml) of the lesion it overlaps most.

    `perfect` is the analysis of the reference masks; 0 for a candidate without a lesion.
    """
    tumour_mm = batch.patient.labels.grid.to_mm(np.argwhere(batch.patient.labels.data > 0))
    lesion, candidate = (
        _ids_at(tumour_mm, a.findings.components, a.prepared.native) for a in (perfect, analysis)
    )
    volumes = {}
    for number in range(1, len(analysis.findings.candidates) + 1):
        overlap = np.bincount(lesion[candidate == number], minlength=2)
        best = int(overlap[1:].argmax()) + 1
        volumes[number] = (
            float(np.count_nonzero(lesion == best)) * VOXEL_ML if overlap[best] else 0.0
        )
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
class PathResult:
    """Errors of one path over all pairs."""

    errors_mm: list[float] = field(default_factory=list)
    matched: int = 0
    pairs: int = 0
    error_percent: list[float] = field(default_factory=list)
    joint_error_percent: list[float] = field(default_factory=list)
    """Of the changes by one criterion for both examinations."""
    within_limits: int = 0
    """Number of these within their stated limits."""


def count_pair(
    result: PathResult,
    scans: tuple[SyntheticExamination, SyntheticExamination],
    perfect: tuple[Analysis, Analysis],
    analysis: Analysis,
    prior: Analysis,
) -> None:
    """Add one pair; every lesion is in both examinations and should be matched."""
    now, then = scans
    assert analysis.followup is not None
    result.errors_mm.append(alignment_error(analysis, now, then))
    true_now = true_volumes(now, perfect[0], analysis)
    true_then = true_volumes(then, perfect[1], prior)
    changes = analysis.followup.changes
    real_changes = [c for c in changes if c.now is None or true_now.get(c.now.id, 0) > 0]
    real_changes = [
        c for c in real_changes if c.before is None or true_then.get(c.before.id, 0) > 0
    ]
    result.pairs += len(real_changes)
    result.matched += sum(c.kind == "matched" for c in real_changes)
    for change in real_changes:
        if change.before is None or change.now is None:
            continue
        volume_before, volume_after = true_then[change.before.id], true_now[change.now.id]
        if min(volume_before, volume_after) >= LARGE_ML and change.volume_percent is not None:
            true_percent = 100 * (volume_after - volume_before) / volume_before
            error = 100 * abs((100 + change.volume_percent) / (100 + true_percent) - 1)
            result.error_percent.append(error)
            joint_text = "" if change.joint is None else change.joint.text
            print_line(
                f"    {volume_before:.1f} ml: {true_percent:+.1f}% true, "
                f"{change.volume_percent:+.1f}% by "
                f"outlines, by one criterion {joint_text}"
            )
            count_joint(result, change, true_percent)


def count_joint(result: PathResult, change: Change, true_percent: float) -> None:
    """Add a change by one criterion, if it was measured."""
    joint = change.joint
    if joint is None or joint.percent is None or joint.plus_minus is None:
        return
    result.joint_error_percent.append(100 * abs((100 + joint.percent) / (100 + true_percent) - 1))
    result.within_limits += abs(joint.percent - true_percent) <= joint.plus_minus


def pairs(
    number: int, first: int = 0, *, one_scanner: bool = False
) -> Iterator[tuple[int, SyntheticExamination, SyntheticExamination]]:
    """Yield pairs of examinations with lesions that grow or shrink."""
    for seed in range(FIRST_SEED + first, FIRST_SEED + first + number):
        rng = np.random.default_rng(seed)
        scale = (1 + rng.uniform(-0.3, 0.6)) ** (1 / 3) if one_scanner else rng.uniform(0.85, 1.2)
        now = synthetic_examination(seed, float(scale), 1, np.eye(4), one_scanner=one_scanner)
        yield (
            seed,
            now,
            synthetic_examination(seed, 1.0, 0, random_motion(seed), one_scanner=one_scanner),
        )


def summarise(name: str, result: PathResult) -> None:
    """Print the figures of one path."""
    errors = result.error_percent or [float("nan")]
    print_line(
        f"{name}: alignment median {np.median(result.errors_mm):.2f}, worst "
        f"{max(result.errors_mm):.2f} mm; matched {result.matched} of {result.pairs}; error of "
        f"volume now / before: median {np.median(errors):.1f}%, worst {max(errors):.1f}%, within "
        f"3%: {sum(e <= 3 for e in errors)} of {len(errors)} lesions"
    )
    joint = result.joint_error_percent or [float("nan")]
    print_line(
        f"{name}, by one criterion: {len(result.joint_error_percent)} measured, median "
        f"{np.median(joint):.1f}%, mean {np.mean(joint):.1f}%, worst {max(joint):.1f}%, within "
        f"10%: {sum(w <= 10 for w in joint)}, within the stated limits: {result.within_limits}"
    )


def main() -> None:
    """Print a line for each lesion, then the figures of each path."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("out", type=Path, help="folder for the synthetic scans")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="number of seeds to skip")
    parser.add_argument(
        "--network", type=int, default=6, help="pairs that the network analyses too"
    )
    parser.add_argument("--one-scanner", action="store_true", help="the same contrasts and slices")
    options = parser.parse_args()
    before_how = CURRENT_ACQUISITION if options.one_scanner else PRIOR_ACQUISITION
    torch.set_num_threads(1)
    reference, network = PathResult(), PathResult()
    lens = Lens("cpu") if options.network else None
    for number, (seed, now, then) in enumerate(
        pairs(options.pairs, options.first, one_scanner=options.one_scanner)
    ):
        folder = options.out / str(seed)
        first = reference_analysis(then, folder / "then", before_how)
        second = reference_analysis(now, folder / "now", CURRENT_ACQUISITION)
        patient = Patient("synthetic")
        examination, before = Examination(patient, "2026-03-01"), Examination(patient, "2026-01-01")
        comparison = compare(second, examination, Prior(before, first))
        print_line(f"{seed} reference: {alignment_error(comparison, now, then):.2f} mm")
        count_pair(reference, (now, then), (second, first), comparison, first)
        if lens is not None and number < options.network:
            network_prior, network_now = (lens(x.study).analysis for x in (first, second))
            network_comparison = compare(network_now, examination, Prior(before, network_prior))
            print_line(f"{seed} network: {alignment_error(network_comparison, now, then):.2f} mm")
            count_pair(network, (now, then), (second, first), network_comparison, network_prior)
    summarise("reference masks", reference)
    if network.errors_mm:
        summarise("network", network)


if __name__ == "__main__":
    main()
