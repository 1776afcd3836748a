"""Check that candidates, voxels and review of a saved result are consistent."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from lesionlens.analysis.findings.components import boxes_of
from lesionlens.base.errors import ReadError
from lesionlens.base.geometry import Box
from lesionlens.base.labels import TUMOUR_LABELS
from lesionlens.base.provenance import joint_sha256
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.files import ReviewFile, RunFile
from lesionlens.base.records.findings import Candidate
from lesionlens.base.records.review import NO_CANDIDATE

_TOLERANCE_MM = 0.1
_RELATIVE_TOLERANCE, _TOLERANCE_ML = 1e-3, 2e-4
_MAX_CANDIDATES = 65_535
"""Largest id of a candidate: files store ids as uint16."""


class AlteredResultError(ReadError):
    """A result with files that do not belong together."""

    def __init__(self, names: tuple[str, ...], found: str) -> None:
        self.names = names
        super().__init__(
            f"{', '.join(names)}: {found}.",
            hint="Restore them, or analyse the study again. An outline that was edited in another "
            "program can be opened by itself: lesionlens review MASK.nii.gz STUDY",
        )


def check_measures(
    candidates: Sequence[Candidate], components: Volume, labels: Volume, folder: str = ""
) -> None:
    """Refuse candidates whose volumes and positions do not match their voxels.

    Parameters
    ----------
    components, labels : Volume
        (I, J, K) int32 and uint8: candidate id and label of each voxel.
    folder : str
        Path below the result folder, with a slash, for the message.

    Raises
    ------
    AlteredResultError
        They contradict each other; the message names the files.
    """
    findings_file, components_file, labels_file = (
        f"{folder}{name}" for name in ("findings.json", "candidates.nii.gz", "segmentation.nii.gz")
    )
    ids, parts = components.data, labels.data
    if not components.grid.matches(labels.grid) or ((ids != 0) != (parts != 0)).any():
        raise AlteredResultError(
            (components_file, labels_file), "files that do not belong together"
        )
    in_range = ids.min(initial=0) >= 0 and ids.max(initial=0) <= _MAX_CANDIDATES
    if not in_range or parts.max(initial=0) > max(TUMOUR_LABELS):
        raise AlteredResultError((components_file, labels_file), "files with invalid numbers")
    boxes = boxes_of(ids)
    if set(boxes) != {c.id for c in candidates}:
        raise AlteredResultError(
            (findings_file, components_file), "files with different candidates"
        )
    for candidate in candidates:
        box = boxes[candidate.id]
        if not _matches_voxels(candidate, ids[box] == candidate.id, parts[box], labels, box):
            raise AlteredResultError(
                (findings_file, components_file, labels_file),
                f"candidate {candidate.id}, whose volume or position differs from that of its "
                f"voxels, in files that do not belong together",
            )


def _matches_voxels(
    candidate: Candidate,
    mask: NDArray[np.bool_],
    parts: NDArray[np.uint8],
    labels: Volume,
    box: Box,
) -> bool:
    points = np.argwhere(mask) + [side.start for side in box]
    centroid = labels.grid.to_mm(points.mean(axis=0))
    if not np.allclose(centroid, candidate.centroid_mm, rtol=0, atol=_TOLERANCE_MM):
        return False
    for region, stored in candidate.volume_ml.items():
        measured = labels.grid.volume_ml(mask & np.isin(parts, region.labels))
        if (
            stored is not None
            and abs(stored - measured) > _TOLERANCE_ML + _RELATIVE_TOLERANCE * measured
        ):
            return False
    return True


def inputs_sha256(inputs: Iterable[tuple[str, str]]) -> str | None:
    """Return the digest of the analysed files, independent of their names; None without files."""
    digests = [sha256 for _, sha256 in inputs]
    return joint_sha256(digests) if digests else None


def check_review(content: ReviewFile, run: RunFile, tracking_uids: Collection[str]) -> None:
    """Refuse a review of another study, or of candidates that the result does not have.

    Raises
    ------
    AlteredResultError
        It belongs to another result.
    """
    inputs_digest = inputs_sha256((row.file, row.sha256) for row in run.inputs)
    added = {e.tracking_uid for e in content.events if e.added is not None}
    mentioned = {e.tracking_uid for e in content.events}
    mentioned |= {c.tracking_uid for c in content.candidates}
    check_owner(
        (content.study_uid, content.inputs_sha256),
        (run.study_uid, inputs_digest),
        mentioned,
        {*tracking_uids, *added},
    )


Owner = tuple[str | None, str | None]
"""Study UID, and digest of the analysed files, of a review or a result."""


def check_owner(
    review: Owner, result: Owner, mentioned: Collection[str], tracking_uids: Collection[str]
) -> None:
    """Refuse a review of another study, or of unknown candidates.

    Parameters
    ----------
    mentioned, tracking_uids : collection of str
        Tracking UIDs in the review, and of the candidates found or added.

    Raises
    ------
    AlteredResultError
        It belongs to another result.
    """
    if review[0] != result[0] or review[1] not in (None, result[1]):
        raise AlteredResultError(("review.json",), "a review of another study")
    if set(mentioned) - {*NO_CANDIDATE, *tracking_uids}:
        raise AlteredResultError(
            ("review.json",), "decisions on candidates that the result does not have"
        )
