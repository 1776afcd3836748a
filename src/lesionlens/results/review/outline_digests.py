"""Digests of the network's outlines on which readers decided.

A study may be analysed again with the same weights and another brain extraction. Its
candidates then keep their tracking UIDs, and logs show earlier decisions again. These digests show
whether the decisions were made on the current outlines, independent of any clock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.arrays import enhancing_as_core
from lesionlens.base.records.findings import Findings
from lesionlens.base.records.review import WHOLE_STUDY, Review
from lesionlens.results.review.saved_result import SavedResult

Outlines = Mapping[str, str]
"""SHA-256 of the network's outline of each candidate, by tracking UID."""


def outlines_of(result: Analysis | SavedResult) -> Outlines:
    """Return the digests of the network's own outlines, without readers' edits."""
    if isinstance(result, Analysis):
        return _digests(result.network.findings, result.network.labels.data)
    labels = result.volumes.labels.data
    return _digests(result.findings, labels if result.has_t1c else enhancing_as_core(labels))


def cached_outline_digests(analysis: Analysis) -> Callable[[], Outlines]:
    """Return a function that returns the digests of an analysis, computed once, when needed."""
    return cache(lambda: outlines_of(analysis))


def _digests(findings: Findings, labels: NDArray[np.uint8]) -> dict[str, str]:
    boxes = ndimage.find_objects(findings.components)
    digests = {}
    for candidate in findings.candidates:
        box = boxes[candidate.id - 1] if candidate.id <= len(boxes) else None
        digest = hashlib.sha256()
        if box is not None:
            candidate_labels = np.where(findings.components[box] == candidate.id, labels[box], 0)
            corner = [side.start for side in box]
            digest.update(f"{corner} {candidate_labels.shape}".encode())
            digest.update(np.ascontiguousarray(candidate_labels, np.uint8).tobytes())
        digests[candidate.tracking_uid] = digest.hexdigest()
    return digests


def decision_digest(review: Review, tracking_uid: str, outlines: Outlines) -> str | None:
    """Return the digest that a decision records: that of the outline; for a signature, of all.

    Outlines drawn by a reader are counted without their digests: the network's do not matter.
    """
    if tracking_uid != WHOLE_STUDY:
        return outlines.get(tracking_uid)
    outlined = review.outlined
    parts = sorted("a reader's" if uid in outlined else sha256 for uid, sha256 in outlines.items())
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def is_signed_on_other_outlines(review: Review, outlines: Outlines) -> bool:
    """Return whether the study was signed on outlines or candidates that differ from these."""
    signature = review.signature
    if signature is None:
        return False
    return signature.seen not in {None, decision_digest(review, WHOLE_STUDY, outlines)}


def is_decided_on_other_outline(
    review: Review, tracking_uid: str, outlines: Outlines
) -> bool | None:
    """Return whether a decision was made on another outline, which no signature confirmed since.

    None if it is unknown: decisions from DICOM objects do not name it.
    """
    decision, signature = review.of(tracking_uid), review.signature
    seen = None if signature is None else signature.seen
    if seen is not None and seen == decision_digest(review, WHOLE_STUDY, outlines):
        return False
    if decision is None or decision.seen is None or tracking_uid not in outlines:
        return None
    return decision.seen != outlines[tracking_uid]
