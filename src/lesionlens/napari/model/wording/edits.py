"""Texts of the panel about outlines drawn by readers."""

from __future__ import annotations

from collections.abc import Iterable

from lesionlens.base.labels import Region, ReviewState, Source
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.findings import Candidate
from lesionlens.base.records.review import CAVITY, Review
from lesionlens.napari.model.choices.tools import DRAWN_CAVITY, NEW
from lesionlens.napari.model.state.state import State
from lesionlens.napari.model.wording.candidates import size_text, volume_text

_PRELIMINARY = "Preliminary, from a first pass: wait for the final candidates, then {}"
SIGNED = "The study is signed: withdraw the signature before you change anything"
_EDIT_PROMPTS = {
    NEW: "A new candidate: paint it with napari's tools, then press Done.",
    DRAWN_CAVITY: "The resection cavity: paint or erase it, then press Done. It is not tumour.",
}
_ORIGINAL_LEGENDS = {
    Source.NETWORK: " White: the network's outline.",
    Source.SEGMENTATION: " White: the outline that was opened.",
}
_DIAMETERS_REPLACED = (
    "The diameters placed by hand lie mostly outside the new outline and are measured again"
)
FOCUS = "Go to a candidate first (N, or its row)"


def decision_obstacle(state: State) -> str:
    """Return why no candidate can be decided or redrawn; empty if possible."""
    if state.analysis is None:
        return missing_analysis_reason(state, "decide")
    if state.review.signed is not None:
        return SIGNED
    if not state.listed:
        return "No candidate is listed"
    return FOCUS if state.focused is None else ""


def why_not_added(state: State) -> str:
    """Return why no candidate can be added or drawn; empty if possible."""
    if state.analysis is None:
        return missing_analysis_reason(state, "add")
    return "" if state.review.signed is None else SIGNED


def why_not_merged(state: State) -> str:
    """Return why the candidate in focus cannot be merged; empty if possible."""
    if state.analysis is None:
        return missing_analysis_reason(state, "merge")
    is_single = len(state.listed) < 2
    return "There is no other candidate to merge with" if is_single else decision_obstacle(state)


def why_not_measured(state: State) -> str:
    """Return why no candidate's diameters can be shown; empty if possible."""
    if state.analysis is None:
        return missing_analysis_reason(state, "measure")
    return FOCUS if state.choices.candidate is None else ""


def missing_analysis_reason(state: State, act: str) -> str:
    """Return the reason why an act is not possible without an analysis."""
    if state.preliminary is not None:
        return _PRELIMINARY.format(act)
    if state.activity is not None:
        return f"{state.activity.name}: wait until it finishes"
    return "No study is open" if state.study is None else "Analyse the study first"


def redrawn(state: State, candidate: Candidate) -> bool:
    """Whether a candidate has a reader's outline."""
    return state.review.outline_of(candidate.tracking_uid) is not None


def no_longer_rejected(candidates: Iterable[Candidate], before: Review, after: Review) -> str:
    """Return which rejected candidates count again, as outlines were changed; empty if none."""
    revived = [
        str(candidate.id)
        for candidate in candidates
        if before.state_of(candidate.tracking_uid) is ReviewState.REJECTED
        and after.state_of(candidate.tracking_uid) is ReviewState.EDITED
    ]
    return f"No longer rejected: {', '.join(revived)}." if revived else ""


def diameters_replaced(ids: Iterable[int]) -> str:
    """Return which candidates lost the diameters placed by hand; empty if none."""
    numbers = ", ".join(map(str, ids))
    return f"{_DIAMETERS_REPLACED}: {numbers}." if numbers else ""


def draft_text(state: State, analysis: Analysis) -> str:
    """Return the question about interrupted strokes; empty if there are none."""
    subject = _interrupted_subject(state, analysis)
    question = f"Drawing {subject} was interrupted; every stroke was saved. Continue?"
    return question if subject else ""


def unfinished_drawing(state: State) -> str:
    """Return that an interrupted drawing is to be continued or discarded first; empty if none."""
    subject = _interrupted_subject(state, state.analysis)
    advice = "continue it (Shift+E) or discard it first"
    return f"Drawing {subject} was interrupted: {advice}." if subject else ""


def missing_drawing(state: State) -> str:
    """Return that an export lacks an interrupted drawing; empty if there is none."""
    subject = _interrupted_subject(state, state.analysis)
    return f"It does not contain the interrupted drawing of {subject}." if subject else ""


def _interrupted_subject(state: State, analysis: Analysis | None) -> str:
    """Return what interrupted strokes draw, if they are offered; empty if not."""
    if analysis is None or state.draft is None or state.editing is not None:
        return ""
    return _subject(state.draft.tracking_uid, analysis)


def _subject(tracking_uid: str, analysis: Analysis) -> str:
    """Return what is drawn under a tracking UID."""
    if tracking_uid == CAVITY:
        return "the resection cavity"
    candidate = analysis.findings.candidate_of(tracking_uid)
    return "a new candidate" if candidate is None else f"candidate {candidate.id}"


def outline_text(state: State, analysis: Analysis, focus: Candidate | None) -> str:
    """Describe the outline being drawn, or the changes of the one in focus."""
    if state.editing in _EDIT_PROMPTS:
        return _EDIT_PROMPTS[state.editing]
    if state.editing is not None:
        enhancing = ", 3 enhancing" if analysis.prepared.has_t1c else ""
        sources = {c.id: c.source for c in analysis.findings.candidates}
        legend = _ORIGINAL_LEGENDS.get(sources.get(state.editing, Source.READER), "")
        return f"Paint, fill or erase with napari's tools: 1 core, 2 oedema{enhancing}.{legend}"
    if focus is None or analysis.original is None or not redrawn(state, focus):
        return ""
    originals = {c.tracking_uid: c for c in analysis.original.findings.candidates}
    original = originals.get(focus.tracking_uid)
    if original is None:
        return "Added by a reader: no score from the network."
    volume = volume_text(original.volume_ml.get(Region.WT))
    size = f"{size_text(original)} of the {original.measured}"
    introduction = "The network drew" if original.source is Source.NETWORK else "Before it had"
    return f"Outline redrawn. {introduction} {volume}, {size} (white)."
