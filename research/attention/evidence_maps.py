"""Test whether evidence by sequence names the one sequence in which a lesion is visible.

    python -m research.attention.evidence_maps [WEIGHTS.safetensors] [--patients 12] [--strong 0]

The tumour of each synthetic patient is visible in one sequence only: the other three are generated
from the same anatomy and contrasts without it. The map names the sequence with the largest mean
share over the lesion's voxels that the network flags given all sequences, or over all voxels
if it flags none; a lesion flagged to less than a twentieth counts as not detected. Also printed:
seconds for the maps beside those for the passes that they are computed from.

With `--strong 15`, that many lesions which the network finds are taken for each sequence: one of 15
to 25 mm radius, as far from the brain's mean in that sequence as `GAINS` states (the first at which
the network flags a twentieth of it), with healthy tissue in the other three.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray

from lesionlens.analysis.explain.shapley import evidence_maps
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.prediction import InputPerturbation
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import SILENT
from lesionlens.engines.lens.engine import LensEngine
from lesionlens.engines.perturbation_order import subsets_of
from lesionlens.network.normalise import zscore
from lesionlens.network.synth import tumour
from lesionlens.network.synth.generator import (
    GeneratorConfig,
    Geometry,
    SyntheticBatch,
    generate_geometry,
    paint,
)
from lesionlens.training.data import FIRST_VALIDATION_SEED
from research.common.progress import print_line
from research.training.calibration.calibrate import prepared_of

FIRST_SEED = FIRST_VALIDATION_SEED + 830_000_000
GRID = GeneratorConfig((92, 112, 88), (2.0, 2.0), tumour_free=0.0, cavity=0.0)
VOXEL_ML = 0.008
THRESHOLD, MIN_FLAGGED = 0.5, 0.05
GAINS = (2.0, 4.0, 7.0)
"""Contrast of a strong lesion, in standard deviations of the brain; T1 goes dark, the rest
bright."""
RADIUS_MM = (15.0, 25.0)
MIN_ML = 1.0


@dataclass(frozen=True, slots=True)
class Row:
    """One lesion: the sequence named for it, its flagged fraction, seconds."""

    named: MrSequence
    flagged: float
    passes_s: float
    maps_s: float


def without_tumour(geometry: Geometry) -> Geometry:
    """Return the same anatomy with healthy tissue in the tumour's place."""
    membership = geometry.membership.clone()
    membership[:, :5] = geometry.anatomy.tissue * geometry.anatomy.brain
    membership[:, 5:9] = 0
    labels = torch.zeros_like(geometry.labels)
    return replace(geometry, membership=membership, labels=labels)


def tumour_in_one_sequence(seed: int) -> dict[MrSequence, SyntheticBatch] | None:
    """Generate a patient with a tumour visible in one sequence only, once for each sequence.

    None if the tumour is smaller than `MIN_ML`.
    """
    geometry = generate_geometry(GRID, [seed])
    if float(geometry.labels[0, 0].sum()) * VOXEL_ML < MIN_ML:
        return None
    with_tumour, without = (
        paint(GRID, geometry, [seed]),
        paint(GRID, without_tumour(geometry), [seed]),
    )
    by_sequence = {}
    for index, sequence in enumerate(MrSequence):
        channels, zscored = without.channels.clone(), without.zscored.clone()
        channels[:, index], zscored[:, index] = (
            with_tumour.channels[:, index],
            with_tumour.zscored[:, index],
        )
        by_sequence[sequence] = replace(with_tumour, channels=channels, zscored=zscored)
    return by_sequence


@dataclass(frozen=True, slots=True)
class HealthyPatient:
    """A synthetic patient without a tumour, and one lesion that can be added."""

    tumour_free: SyntheticBatch
    lesion: torch.Tensor
    """(1, I, J, K) float32, fraction of each voxel."""
    labels: torch.Tensor
    """(1, 3, I, J, K) uint8 of the lesion."""


def healthy_patient(seed: int) -> HealthyPatient:
    """Generate a patient without a tumour, and the position of one lesion."""
    plan = tumour.plan_lesions

    def single(*args: Any, **kwargs: Any) -> tumour.LesionPlan:
        lesion_plan = plan(*args, **kwargs)
        radius = float(np.random.default_rng(seed).uniform(*RADIUS_MM))
        return replace(
            lesion_plan,
            count=torch.ones_like(lesion_plan.count),
            radius=torch.full_like(lesion_plan.radius, radius),
        )

    with patch.object(tumour, "plan_lesions", single):
        geometry = generate_geometry(GRID, [seed])
    batch = paint(GRID, without_tumour(geometry), [seed])
    return HealthyPatient(batch, geometry.membership[:, 5:9].sum(1), geometry.labels)


def add_strong_lesion(patient: HealthyPatient, sequence: MrSequence) -> Iterator[SyntheticBatch]:
    """Yield the patient with the lesion in one sequence only, with increasing contrast."""
    index, brain = list(MrSequence).index(sequence), patient.tumour_free.brain[0]
    deviation = float(patient.tumour_free.channels[0, index][brain].std())
    for gain in GAINS:
        channels = patient.tumour_free.channels.clone()
        contrast = -gain if sequence is MrSequence.T1 else gain
        channel = (channels[:, index] + contrast * deviation * patient.lesion).clamp_min(0)
        channels[:, index] = channel * patient.tumour_free.brain
        zscored = zscore(channels, patient.tumour_free.brain)
        yield replace(
            patient.tumour_free, channels=channels, zscored=zscored, labels=patient.labels
        )


def is_detected(engine: LensEngine, study: PreparedStudy, reference: NDArray[np.bool_]) -> bool:
    """Return whether the network flags enough of a lesion, given all sequences."""
    all_sequences = [InputPerturbation.showing(frozenset(MrSequence))]
    prediction = engine.predict_perturbed(study, all_sequences, context=SILENT)
    voxels = prediction.grid.flat_voxels(study.working.to_mm(np.argwhere(reference)))
    return float((prediction.probability[0].ravel()[voxels] >= THRESHOLD).mean()) >= MIN_FLAGGED


def detected_lesions(engine: LensEngine, count: int, first: int) -> dict[MrSequence, list[Row]]:
    """Return `count` lesions per sequence that the network detects in that sequence alone."""
    rows: dict[MrSequence, list[Row]] = {sequence: [] for sequence in MrSequence}
    attempts = dict.fromkeys(MrSequence, 0)
    for seed in range(FIRST_SEED + first, FIRST_SEED + first + 2 * count):
        patient = healthy_patient(seed)
        for sequence, sequence_rows in rows.items():
            if len(sequence_rows) >= count:
                continue
            attempts[sequence] += 1
            for gain, batch in zip(GAINS, add_strong_lesion(patient, sequence), strict=True):
                study = prepared_of(batch, np.ones(4, dtype=bool))
                reference = batch.labels[0, 0].numpy() > 0
                if is_detected(engine, study, reference):
                    row = attribute_lesion(engine, study, reference)
                    sequence_rows.append(row)
                    print_line(f"{seed} {sequence.display_name}, {gain:.0f} SD: {row_text(row)}")
                    break
    for sequence, number in attempts.items():
        print_line(
            f"{sequence.display_name}: {len(rows[sequence])} of {number} generated lesions detected"
        )
    return rows


def attribute_lesion(engine: LensEngine, study: PreparedStudy, reference: NDArray[np.bool_]) -> Row:
    """Compute the contributions of the sequences to a lesion from all their subsets."""
    subsets = subsets_of(tuple(MrSequence))
    started = time.perf_counter()
    predictions = engine.predict_perturbed(
        study,
        [InputPerturbation.showing(subset) for subset in subsets],
        context=SILENT,
    )
    passes_done = time.perf_counter()
    by_subset = dict(zip(subsets, predictions.probability, strict=True))
    maps = evidence_maps(tuple(MrSequence), by_subset, predictions.grid)
    maps_done = time.perf_counter()
    voxels = predictions.grid.flat_voxels(study.working.to_mm(np.argwhere(reference)))
    flagged_voxels = voxels[by_subset[frozenset(MrSequence)].ravel()[voxels] >= THRESHOLD]
    shares = maps.within(flagged_voxels if len(flagged_voxels) else voxels)
    return Row(
        named=max(shares, key=lambda sequence: shares[sequence]),
        flagged=len(flagged_voxels) / len(voxels),
        passes_s=passes_done - started,
        maps_s=maps_done - passes_done,
    )


def main() -> None:
    """Print a line for each lesion, then one for each sequence."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("weights", type=Path, nargs="?")
    parser.add_argument(
        "--patients", type=int, default=12, help="synthetic patients; four lesions each"
    )
    parser.add_argument("--first", type=int, default=0, help="number of seeds to skip")
    parser.add_argument("--strong", type=int, default=0, help="detected lesions for each sequence")
    options = parser.parse_args()
    engine = LensEngine("cpu", options.weights)
    if options.strong:
        summarise(detected_lesions(engine, options.strong, options.first))
        return
    rows: dict[MrSequence, list[Row]] = {sequence: [] for sequence in MrSequence}
    for seed in range(
        FIRST_SEED + options.first, FIRST_SEED + options.first + 10 * options.patients
    ):
        by_sequence = tumour_in_one_sequence(seed)
        if by_sequence is None:
            continue
        for sequence, batch in by_sequence.items():
            reference = batch.labels[0, 0].numpy() > 0
            row = attribute_lesion(engine, prepared_of(batch, np.ones(4, dtype=bool)), reference)
            rows[sequence].append(row)
            print_line(f"{seed} {sequence.display_name}: {row_text(row)}")
        if len(rows[MrSequence.T1]) == options.patients:
            break
    summarise(rows)


def row_text(row: Row) -> str:
    """Return the named sequence and the flagged fraction of the lesion."""
    return f"{row.named.display_name}, {row.flagged:.0%} flagged"


def summarise(rows: dict[MrSequence, list[Row]]) -> None:
    """Print a line for each sequence, and the cost of the maps."""
    for sequence, sequence_rows in rows.items():
        print_line(f"{sequence.display_name}: {summary_text(sequence_rows, sequence)}")
    all_rows = [row for sequence_rows in rows.values() for row in sequence_rows]
    cost = sum(row.maps_s for row in all_rows) / sum(row.passes_s for row in all_rows)
    print_line(f"maps take {cost:.2%} of the time of the passes they are computed from")


def summary_text(rows: list[Row], sequence: MrSequence) -> str:
    """Return how often the sequence was named, of the detected lesions and of all."""
    flagged_rows = [row for row in rows if row.flagged >= MIN_FLAGGED]
    correct_count = sum(row.named is sequence for row in flagged_rows)
    named_count = sum(row.named is sequence for row in rows)
    return f"{correct_count} of {len(flagged_rows)} detected, {named_count} of all {len(rows)}"


if __name__ == "__main__":
    main()
