"""The overlays after a reader redrew an outline, or took that back: nothing else is drawn again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lesionlens.analysis.findings.edits import applied
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.arrays import frozen
from lesionlens.base.records.review import Review
from lesionlens.napari.model.overlays.maps import Overlays, onto


def redrawn(overlays: Overlays, analysis: Analysis) -> Overlays:
    """Return the overlays with the outlines that an analysis has now.

    Parameters
    ----------
    overlays : Overlays
        Of the same analysis, as it was.
    analysis : Analysis
        From `findings.edits.applied`.
    """
    native, grid = analysis.prepared.native, overlays.grid
    components = onto(analysis.findings.components, native, grid, nearest=True)
    labels = onto(analysis.volumes.labels.data, native, grid, nearest=True)
    return replace(
        overlays,
        components=frozen(components.astype(np.int32)),
        labels=frozen(labels.astype(np.uint8)),
    )


def reviewed(
    analysis: Analysis, overlays: Overlays | None, review: Review
) -> tuple[Analysis, Overlays | None]:
    """Return an analysis as a review has it, and its overlays; half a second where outlines change.

    Parameters
    ----------
    analysis, overlays
        As they are shown.
    review : Review
        The decisions up to now.
    """
    anew = redraws(analysis, review)
    analysis = replace(analysis, review=review)
    if not anew or overlays is None:
        return analysis, overlays
    analysis = applied(analysis)
    return analysis, redrawn(overlays, analysis)


def redraws(analysis: Analysis, review: Review) -> bool:
    """Whether other outlines or diameters hold in a review than in the one that is shown."""
    before = analysis.review
    return in_force(review) != in_force(before) or _placed(review) != _placed(before)


def _placed(review: Review) -> dict[str, object]:
    """Return the diameters that readers placed, by tracking UID."""
    last = {event.tracking_uid: event.diameters for event in review.events}
    return {uid: ends for uid, ends in last.items() if ends is not None}


def in_force(review: Review) -> dict[str, str]:
    """Return the SHA-256 of each outline of a reader that holds in a review, by tracking UID."""
    return {uid: outline.sha256 for uid, outline in review.outlined.items()}
