"""Doubtful parts of an outline: uncertain, and supported by at most one sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.analysis.findings.components import boxes_of
from lesionlens.base.geometry import TOUCHING, as_vec3
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.lazy_zeros import lazy_zeros
from lesionlens.base.records.evidence import MIN_SHARE, SequenceEvidence
from lesionlens.base.records.findings import UNSURE, Candidate, DoubtfulPart

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

    A voxel is doubtful where the uncertainty is high (`UNSURE`) and at most one sequence adds
    `MIN_SHARE` to the probability: predictions disagree, and no two sequences support each other.

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
    found: list[DoubtfulPart] = []
    for candidate in candidates:
        box = boxes[candidate.id]
        unsure = (components[box] == candidate.id) & (uncertainty[box] >= UNSURE)
        places, start = np.argwhere(unsure), np.array([side.start for side in box])
        at = evidence.grid.nearest_voxel(grid.to_mm(places + start), clip=True)
        shares = {s: share[tuple(at.T)] for s, share in evidence.shares.items()}
        carried = np.sum([one >= MIN_SHARE for one in shares.values()], axis=0)
        unsure[tuple(places[carried > 1].T)] = False
        labels, count = ndimage.label(unsure, structure=TOUCHING)
        sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        of_place = labels[tuple(places.T)]
        for part in np.argsort(-sizes, kind="stable") + 1:
            ml = float(sizes[part - 1]) * grid.voxel_ml
            if ml < MIN_ML:
                break
            mine = of_place == part
            numbers[box][labels == part] = len(found) + 1
            middle = grid.to_mm(places[mine].mean(axis=0) + start)
            means = {s: float(one[mine].mean()) for s, one in shares.items()}
            found.append(
                DoubtfulPart(
                    number=len(found) + 1,
                    candidate=candidate.id,
                    volume_ml=ml,
                    centroid_mm=as_vec3(middle),
                    uncertainty=float(uncertainty[box][labels == part].mean()),
                    in_favour=_ordered(means, 1),
                    against=_ordered(means, -1),
                )
            )
    return tuple(found), numbers


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
    left = lazy_zeros(grid.shape, np.uint16)
    found = []
    boxes = boxes_of(numbers)
    for part in parts:
        box = boxes[part.number]
        drawn, owners = numbers[box] == part.number, components[box]
        held = np.bincount(owners[drawn], minlength=2)
        if 2 * held[1:].sum() <= held.sum():
            continue
        owner = 1 + int(held[1:].argmax())
        mine = drawn & (owners == owner)
        left[box][mine] = part.number
        if (owner, held[owner]) == (part.candidate, held.sum()):
            found.append(part)
            continue
        middle = np.argwhere(mine).mean(axis=0) + [side.start for side in box]
        found.append(
            replace(
                part,
                candidate=owner,
                volume_ml=grid.volume_ml(mine),
                centroid_mm=as_vec3(grid.to_mm(middle)),
                uncertainty=part.uncertainty
                if uncertainty is None
                else float(uncertainty[box][mine].mean()),
            )
        )
    return tuple(sorted(found, key=lambda one: (one.candidate, -one.volume_ml))), left


def _ordered(means: dict[MrSequence, float], sign: int) -> tuple[MrSequence, ...]:
    """Return the sequences that support (1) or contradict (-1), strongest first."""
    strong = {s: sign * mean for s, mean in means.items() if sign * mean >= MIN_SHARE}
    return tuple(sorted(strong, key=lambda sequence: -strong[sequence]))
