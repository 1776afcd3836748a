"""Place readers' outlines among the candidates of an analysis, which may be a later one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.findings import Findings
from lesionlens.base.records.review import Outline, Review
from lesionlens.base.text import millilitres


@dataclass(frozen=True, slots=True, eq=False)
class PlacedOutlines:
    """Labels and candidate ids with the readers' outlines in place of the network's."""

    labels: NDArray[np.uint8]
    """(I, J, K) uint8: `base.labels.Label`, without the resection cavity."""
    components: NDArray[np.int32]
    """(I, J, K) int32: id of the candidate at each voxel; 0 outside all."""
    id_by_uid: Mapping[str, int]
    """Id by tracking UID: of the network's candidates, then of added ones, placed or not."""
    outline_by_id: Mapping[int, Outline]
    """The outlines that were placed; a candidate without one keeps the network's outline."""
    notices: tuple[str, ...]
    """Notices of overlaps with other candidates."""


def place_outlines(
    findings: Findings, labels: Volume, review: Review, omitted: int
) -> PlacedOutlines:
    """Place the outlines of a review.

    A voxel that is also in another candidate, even a rejected one, belongs to that candidate; of
    two outlines that share voxels, the one that was edited first has them. An outline that lies
    wholly in other candidates is omitted.

    Parameters
    ----------
    findings : Findings
        The network's own, with their components.
    labels : Volume
        (I, J, K) uint8: the network's own, on the same grid.
    omitted : int
        How many candidates the DICOM objects of an imported result omitted; added ones do not get
        their numbers.
    """
    id_by_uid, outlines = _id_by_uid(findings, review, omitted), review.outlined
    listed = {id_by_uid[uid]: o for uid, o in outlines.items() if uid in id_by_uid}
    outline_by_id, notices = _without_covered(findings, listed, labels.grid.voxel_ml)
    if not outline_by_id:
        return PlacedOutlines(labels.data, findings.components, id_by_uid, {}, notices)
    placed_labels, components = labels.data.copy(), findings.components.copy()
    mask = np.isin(components, list(outline_by_id))
    placed_labels[mask] = components[mask] = 0
    for number, outline in outline_by_id.items():
        mask = (outline.labels > 0) & (components[outline.box] == 0)
        placed_labels[outline.box][mask] = outline.labels[mask]
        components[outline.box][mask] = number
    return PlacedOutlines(placed_labels, components, id_by_uid, outline_by_id, notices)


def _id_by_uid(findings: Findings, review: Review, omitted: int) -> dict[str, int]:
    """Return the id of each candidate by its UID: the network's own, then the added ones."""
    numbers = {c.tracking_uid: c.id for c in findings.candidates}
    highest = max((len(numbers) + omitted, *numbers.values()))
    added = [uid for uid in review.added if uid not in numbers and uid in review.outlined]
    return numbers | {uid: highest + offset for offset, uid in enumerate(added, 1)}


def _without_covered(
    findings: Findings, outline_by_id: Mapping[int, Outline], voxel_ml: float
) -> tuple[dict[int, Outline], tuple[str, ...]]:
    """Omit outlines that lie wholly in other candidates; return also notices of overlaps.

    Edits never include voxels of other candidates, but a later analysis may flag the same region,
    and another program may write outlines that overlap.
    """
    components, network_ids = findings.components, {c.id for c in findings.candidates}
    retained, notices = dict(outline_by_id), list[str]()
    while True:
        covered = _covered_voxels(retained, components)
        fully_covered = [
            n for n in covered if covered[n] and covered[n] == np.count_nonzero(retained[n].labels)
        ]
        if not fully_covered:
            break
        for number in fully_covered:
            del retained[number]
            notices.append(
                f"Candidate {number} keeps the outline of this analysis: the one that a reader "
                f"drew lies entirely within other candidates"
                if number in network_ids
                else (
                    "A lesion that a reader added lies entirely within other candidates of this "
                    "analysis: it is not listed separately"
                )
            )
    notices += [
        f"{millilitres(count * voxel_ml)} ml of the outline that a reader "
        f"drew of candidate {number} lie in other candidates of this analysis and are counted there"
        for number, count in covered.items()
        if count
    ]
    return retained, tuple(notices)


def _covered_voxels(
    outline_by_id: Mapping[int, Outline], components: NDArray[np.int32]
) -> dict[int, int]:
    """Count the voxels of each outline in candidates without one, and in the outlines before it."""
    outlined, counts = np.zeros(components.shape, bool), dict[int, int]()
    for number, outline in outline_by_id.items():
        ids, own_voxels = components[outline.box], outline.labels > 0
        in_others = (ids > 0) & ~np.isin(ids, list(outline_by_id))
        counts[number] = int(np.count_nonzero(own_voxels & (in_others | outlined[outline.box])))
        outlined[outline.box] |= own_voxels
    return counts
