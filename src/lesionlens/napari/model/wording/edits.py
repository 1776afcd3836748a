"""Texts of the panel about outlines drawn by readers."""

from __future__ import annotations

from lesionlens.base.labels import Region, Source
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.findings import Candidate
from lesionlens.base.records.review import CAVITY
from lesionlens.napari.model.choices.tools import DRAWN_CAVITY, NEW
from lesionlens.napari.model.state.state import State, listed
from lesionlens.napari.model.wording.candidates import size_words, volume_words

_PRELIMINARY = "Preliminary, from a first pass: wait for the final candidates, then {}"
SIGNED = "The study is signed: withdraw the signature before you change anything"
_BEGUN = {
    NEW: "A new candidate: paint it with napari's tools, then press Done.",
    DRAWN_CAVITY: "The resection cavity: paint or erase it, then press Done. It is no tumour.",
}
_WHITE = {
    Source.NETWORK: " White: the network's outline.",
    Source.SEGMENTATION: " White: the outline that was opened.",
}
_FOCUS = "Go to a candidate first (N, or its row)"


def why_not_marked(state: State) -> str:
    """Return why no candidate can be decided or redrawn; empty if possible."""
    if state.analysis is None:
        return awaited(state, "decide")
    if state.review.signed is not None:
        return SIGNED
    rows = listed(state.analysis, state.choices.threshold)
    if not rows:
        return "No candidate is listed"
    focused = any(c.id == state.choices.candidate for c in rows)
    return "" if focused else _FOCUS


def why_not_added(state: State) -> str:
    """Return why no candidate can be added or drawn; empty if possible."""
    if state.analysis is None:
        return awaited(state, "add")
    return "" if state.review.signed is None else SIGNED


def why_not_merged(state: State) -> str:
    """Return why the candidate in focus cannot be merged; empty if possible."""
    if state.analysis is None:
        return awaited(state, "merge")
    one = len(listed(state.analysis, state.choices.threshold)) < 2
    return "There is no other candidate to merge with" if one else why_not_marked(state)


def why_not_measured(state: State) -> str:
    """Return why no candidate's diameters can be shown; empty if possible."""
    if state.analysis is None:
        return awaited(state, "measure")
    return _FOCUS if state.choices.candidate is None else ""


def awaited(state: State, act: str) -> str:
    """Return what an act waits for without an analysis."""
    if state.preliminary is not None:
        return _PRELIMINARY.format(act)
    if state.activity is not None:
        return f"{state.activity.name}: wait until it has ended"
    return "No study is open" if state.study is None else "Analyse the study first"


def redrawn(state: State, candidate: Candidate) -> bool:
    """Whether a candidate has a reader's outline."""
    return state.review.outline_of(candidate.tracking_uid) is not None


def draft_words(state: State, analysis: Analysis) -> str:
    """Return the question about interrupted strokes; empty if there are none."""
    if state.draft is None or state.editing is not None:
        return ""
    uid = state.draft.tracking_uid
    known = next((c for c in analysis.findings.candidates if c.tracking_uid == uid), None)
    of = "a new candidate" if known is None else f"candidate {known.id}"
    of = "the resection cavity" if uid == CAVITY else of
    return f"The drawing of {of} was interrupted; every stroke was saved. Continue?"


def outline_words(state: State, analysis: Analysis, focus: Candidate | None) -> str:
    """Describe the outline being drawn, or the changes of the one in focus."""
    if state.editing in _BEGUN:
        return _BEGUN[state.editing]
    if state.editing is not None:
        enhancing = ", 3 enhancing" if analysis.prepared.has_t1c else ""
        known = {c.id: c.source for c in analysis.findings.candidates}
        white = _WHITE.get(known.get(state.editing, Source.READER), "")
        return f"Paint, fill or erase with napari's tools: 1 core, 2 oedema{enhancing}.{white}"
    if focus is None or analysis.original is None or not redrawn(state, focus):
        return ""
    drew = {c.tracking_uid: c for c in analysis.original.findings.candidates}
    own = drew.get(focus.tracking_uid)
    if own is None:
        return "Added by a reader: no score from the network."
    volume = volume_words(own.volume_ml.get(Region.WT))
    size = f"{size_words(own)} of the {own.measured}"
    before = "The network drew" if own.source is Source.NETWORK else "Before it had"
    return f"Outline redrawn. {before} {volume}, {size} (white)."
