"""Doubtful parts of an outline: uncertain, and supported by at most one sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lesionlens.analysis.findings.components import boxes_of
from lesionlens.base.geometry import VOLUME_TOLERANCE, as_vec3
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.lazy_zeros import lazy_zeros
from lesionlens.base.masks import connected_parts
from lesionlens.base.records.evidence import MIN_SHARE, SequenceEvidence
from lesionlens.base.records.findings import HIGH_UNCERTAINTY, Candidate, DoubtfulPart

Numbers = NDArray[np.uint16]
MIN_ML = 0.3
"""Smaller parts are not reported."""


def doubtful_parts(
    candidates: Sequence[Candidate],
    components: NDArray[np.int32],
    uncertainty: NDArray[np.float32],
    evidence: SequenceEvidence,
    grid: Grid,
) -> tuple[tuple[DoubtfulPart, ...], Numbers]:
    """Find the connected doubtful parts of outlines.

    A voxel is doubtful where the uncertainty is high (`HIGH_UNCERTAINTY`) and at most one sequence
    adds `MIN_SHARE` to the probability: predictions disagree, and no two sequences support each
    other.

    Parameters
    ----------
    candidates : sequence of Candidate
        By descending score.
    components : (I, J, K) int32
        Candidate id of each voxel, 0 elsewhere.
    uncertainty : (I, J, K) float32
        0 to 1.
    evidence : SequenceEvidence
        Of at least two sequences, on the grid of the first pass.
    grid : Grid
        Native, of the arrays.

    Returns
    -------
    parts : tuple of DoubtfulPart
        By candidate, largest part first; numbered from 1.
    numbers : (I, J, K) uint16
        Number of the part at each voxel, 0 elsewhere.
    """
    numbers = lazy_zeros(grid.shape, np.uint16)
    boxes = boxes_of(components)
    doubtful: list[DoubtfulPart] = []
    for candidate in candidates:
        box = boxes[candidate.id]
        is_uncertain = (components[box] == candidate.id) & (uncertainty[box] >= HIGH_UNCERTAINTY)
        voxels, start = np.argwhere(is_uncertain), np.array([side.start for side in box])
        evidence_voxels = evidence.grid.nearest_voxel(grid.to_mm(voxels + start), clip=True)
        at_voxels = tuple(evidence_voxels.T)
        contributions = {s: volume[at_voxels] for s, volume in evidence.shares.items()}
        support_count = np.sum([c >= MIN_SHARE for c in contributions.values()], axis=0)
        is_uncertain[tuple(voxels[support_count > 1].T)] = False
        labels, sizes = connected_parts(is_uncertain)
        part_numbers = labels[tuple(voxels.T)]
        for part in np.argsort(-sizes[1:], kind="stable") + 1:
            ml = float(sizes[part]) * grid.voxel_ml
            if ml < MIN_ML * (1 - VOLUME_TOLERANCE):
                break
            in_part = part_numbers == part
            numbers[box][labels == part] = len(doubtful) + 1
            centroid_mm = grid.to_mm(voxels[in_part].mean(axis=0) + start)
            means = {s: float(values[in_part].mean()) for s, values in contributions.items()}
            doubtful.append(
                DoubtfulPart(
                    number=len(doubtful) + 1,
                    candidate=candidate.id,
                    volume_ml=ml,
                    centroid_mm=as_vec3(centroid_mm),
                    uncertainty=float(uncertainty[box][labels == part].mean()),
                    in_favour=_sequences_by_effect(means, 1),
                    against=_sequences_by_effect(means, -1),
                )
            )
    return tuple(doubtful), numbers


def remaining_parts(
    parts: Sequence[DoubtfulPart],
    numbers: Numbers,
    components: NDArray[np.int32],
    uncertainty: NDArray[np.float32] | None,
    grid: Grid,
) -> tuple[tuple[DoubtfulPart, ...], Numbers]:
    """Return the doubtful parts of edited outlines, and their voxels.

    Parameters
    ----------
    parts, numbers
        As the network drew them, from `doubtful_parts`.
    components : (I, J, K) int32
        Candidate id of each voxel of the edited outlines.
    uncertainty : (I, J, K) float32 or None
        0 to 1.
    grid : Grid
        Native, of the arrays.

    Returns
    -------
    parts : tuple of DoubtfulPart
        Those of which outlines still contain more than half. Each is of the candidate that has most
        of it, and is measured where it lies in that candidate's outline.
    numbers : (I, J, K) uint16
        Number of the part at each voxel, 0 elsewhere.
    """
    remaining_numbers = lazy_zeros(grid.shape, np.uint16)
    remaining = []
    boxes = boxes_of(numbers)
    for part in parts:
        box = boxes[part.number]
        part_mask, owners = numbers[box] == part.number, components[box]
        voxels_by_owner = np.bincount(owners[part_mask], minlength=2)
        if 2 * voxels_by_owner[1:].sum() <= voxels_by_owner.sum():
            continue
        owner = 1 + int(voxels_by_owner[1:].argmax())
        retained = part_mask & (owners == owner)
        remaining_numbers[box][retained] = part.number
        if (owner, voxels_by_owner[owner]) == (part.candidate, voxels_by_owner.sum()):
            remaining.append(part)
            continue
        centroid = np.argwhere(retained).mean(axis=0) + [side.start for side in box]
        remaining.append(
            replace(
                part,
                candidate=owner,
                volume_ml=grid.volume_ml(retained),
                centroid_mm=as_vec3(grid.to_mm(centroid)),
                uncertainty=part.uncertainty
                if uncertainty is None
                else float(uncertainty[box][retained].mean()),
            )
        )
    remaining.sort(key=lambda part: (part.candidate, -part.volume_ml))
    return tuple(remaining), remaining_numbers


def _sequences_by_effect(means: dict[MrSequence, float], sign: int) -> tuple[MrSequence, ...]:
    """Return the sequences that support (1) or contradict (-1), strongest first."""
    effects = {s: sign * mean for s, mean in means.items() if sign * mean >= MIN_SHARE}
    return tuple(sorted(effects, key=lambda sequence: -effects[sequence]))
