"""Diameters that a reader placed on a candidate whose outline changes afterwards."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.review import DrawnDiameters, Outline, Review
from lesionlens.results.review.log import ReviewLog

_SAMPLES = 50
"""Number of points on a diameter that are looked up in the outlines."""


def settle_diameters(log: ReviewLog, analysis: Analysis, *, reader: str | None) -> list[int]:
    """Record what becomes of a reader's diameters on outlines that the log has changed.

    They go to the changed candidate in which most of them lies, unless it has diameters of its own.
    If less than half of what lay in the outline is left in it, the measured ones replace them.

    Parameters
    ----------
    log : ReviewLog
        The log with the new outlines.
    analysis : Analysis
        The analysis before they changed, with its review.

    Returns
    -------
    list of int
        Ids of the candidates whose diameters were replaced by the measured ones.
    """
    before, replaced = analysis.review, []
    changed = _changed_outlines(before, log.review)
    for candidate in analysis.findings.candidates:
        uid = candidate.tracking_uid
        diameters = before.diameters_of(uid)
        if diameters is None or uid not in changed:
            continue
        voxels = _voxels_on(diameters, analysis)
        inside = {
            other: int(np.count_nonzero(outline.mask(analysis.findings.components.shape)[voxels]))
            for other, outline in changed.items()
        }
        holder = max(inside, key=lambda other: (inside[other], other == uid))
        was_inside = np.count_nonzero(analysis.findings.components[voxels] == candidate.id)
        if holder == uid and 2 * inside[uid] >= was_inside:
            continue
        if not changed[uid].is_empty:  # an empty outline is a merge, which its act must end
            log.place_diameters(uid, None, reader=reader)
        if holder == uid:
            replaced.append(candidate.id)
        elif log.review.diameters_of(holder) is None:
            log.place_diameters(holder, diameters, reader=reader)
    return replaced


def _changed_outlines(before: Review, after: Review) -> Mapping[str, Outline]:
    """Return the outlines that differ from those before, by tracking UID."""
    earlier = before.outlined
    return {uid: o for uid, o in after.outlined.items() if earlier.get(uid) != o}


def _voxels_on(diameters: DrawnDiameters, analysis: Analysis) -> tuple[np.ndarray, ...]:
    """Return the indices of native voxels along both diameters."""
    points = np.concatenate([np.linspace(*ends, _SAMPLES) for ends in diameters])
    return tuple(analysis.volumes.labels.grid.nearest_voxel(points, clip=True).T)
