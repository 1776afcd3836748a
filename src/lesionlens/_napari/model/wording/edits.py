"""What the panel says of outlines that readers draw."""

from __future__ import annotations

from lesionlens._napari.model.choices.tools import NEW
from lesionlens._napari.model.state.state import State
from lesionlens._napari.model.wording.candidates import size_words, volume_words
from lesionlens.base.labels import Region
from lesionlens.records.analysis import Analysis
from lesionlens.records.findings import Candidate


def redrawn(state: State, candidate: Candidate) -> bool:
    """Whether a reader's outline holds for a candidate."""
    return state.review.outline_of(candidate.tracking_uid) is not None


def draft_words(state: State, analysis: Analysis) -> str:
    """Ask whether strokes that were interrupted go on; empty where there are none."""
    if state.draft is None or state.editing is not None:
        return ""
    uid = state.draft.tracking_uid
    known = next((c for c in analysis.findings.candidates if c.tracking_uid == uid), None)
    of = "a new candidate" if known is None else f"candidate {known.id}"
    return f"The drawing of {of} was interrupted; every stroke is there. Go on with it?"


def outline_words(state: State, analysis: Analysis, focus: Candidate | None) -> str:
    """Report what is drawn, or how the outline in focus differs from the network's."""
    if state.editing == NEW:
        return "A new candidate: paint it with napari's tools, then press Done."
    if state.editing is not None:
        return (
            "Paint, fill or erase with napari's tools: 1 core, 2 oedema, 3 enhancing. "
            "White: as the network drew it."
        )
    if focus is None or analysis.original is None or not redrawn(state, focus):
        return ""
    drew = {c.tracking_uid: c for c in analysis.original.findings.candidates}
    own = drew.get(focus.tracking_uid)
    if own is None:
        return "Added by a reader: the network did not flag it, so it has no score."
    volume = volume_words(own.volume_ml.get(Region.WT))
    size = f"{size_words(own)} of the {own.measured}"
    return f"Outline redrawn. The network drew {volume}, {size} (white)."
