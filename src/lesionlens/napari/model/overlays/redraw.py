"""Update outlines in the overlays after a reader's edit or its undo."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from lesionlens.analysis.findings.edits import applied
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.review import Review
from lesionlens.napari.model.overlays.maps import Overlays, outlines_of


def redrawn(overlays: Overlays, analysis: Analysis) -> Overlays:
    """Return the overlays with the current outlines of an analysis.

    Parameters
    ----------
    overlays : Overlays
        Overlays of the same analysis before the change.
    analysis : Analysis
        Analysis from `findings.edits.applied`.
    """
    components, labels = outlines_of(analysis)
    return replace(overlays, components=components, labels=labels)


class Reviewed(NamedTuple):
    """An analysis with a review applied, and its overlays."""

    analysis: Analysis
    overlays: Overlays | None


def reviewed(analysis: Analysis, overlays: Overlays | None, review: Review) -> Reviewed:
    """Apply a review to an analysis and its overlays; takes half a second if outlines change."""
    outlines_change = redraws(analysis, review)
    analysis = replace(analysis, review=review)
    if not outlines_change or overlays is None:
        return Reviewed(analysis, overlays)
    analysis = applied(analysis)
    return Reviewed(analysis, redrawn(overlays, analysis))


def redraws(analysis: Analysis, review: Review) -> bool:
    """Whether a review changes outlines or diameters of the shown analysis."""
    before = analysis.review
    return _outlines(review) != _outlines(before) or _diameters(review) != _diameters(before)


def _diameters(review: Review) -> dict[str, object]:
    """Return the diameters placed by readers, by tracking UID."""
    last = {event.tracking_uid: event.diameters for event in review.events}
    return {uid: ends for uid, ends in last.items() if ends is not None}


def _outlines(review: Review) -> dict[str, str]:
    """Return the SHA-256 of each reader's outline in force, by tracking UID."""
    return {uid: outline.sha256 for uid, outline in review.outlined.items()}
