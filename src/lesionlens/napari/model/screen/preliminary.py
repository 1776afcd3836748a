"""Preliminary candidates on the screen while the analysis runs: pure, frozen, no Qt."""

from __future__ import annotations

from dataclasses import replace

from lesionlens.base.labels import Region, ReviewState
from lesionlens.base.records.preliminary import PreliminaryCandidate
from lesionlens.base.text import counted
from lesionlens.napari.model.choices.choices import Overlay
from lesionlens.napari.model.screen.screen import (
    FocusedRegion,
    Screen,
    ShownCandidate,
    ShownOutline,
)
from lesionlens.napari.model.state.state import State
from lesionlens.napari.model.wording.candidates import score_text, volume_text
from lesionlens.napari.model.wording.review_signs import STATE_COLOURS

_DETAILS = (
    "Preliminary: from a first, coarser pass while the analysis runs. You can go to it but not "
    "decide on it yet."
)


def with_preliminary(screen: Screen, state: State) -> Screen:
    """Add preliminary candidates: rows without decisions, dashed outlines.

    A screen with an analysis or without preliminary candidates is returned unchanged.
    """
    if state.preliminary is None or state.analysis is not None:
        return screen
    choices = state.choices
    rows = state.listed_preliminary
    focus = next((c for c in rows if c.id == choices.candidate), None)
    outline = ShownOutline(
        visible=choices.overlay is not Overlay.OFF and not choices.hidden,
        region=Region.WT,
        colours=tuple((c.id, STATE_COLOURS[ReviewState.UNREVIEWED]) for c in rows),
        boxed=None if focus is None else focus.id,
        preliminary=True,
    )
    focused_region = None
    if focus is not None:
        focused_region = FocusedRegion(focus.centroid_mm, focus.bounding_box_mm)
    count = counted(len(rows), "preliminary candidate")
    return replace(
        screen,
        preliminary=True,
        conclusion=f"{count} · still analysing",
        candidates=tuple(_row(c, focus=c is focus) for c in rows),
        scene=replace(screen.scene, outline=outline, focus=focused_region),
    )


def _row(candidate: PreliminaryCandidate, *, focus: bool) -> ShownCandidate:
    return ShownCandidate(
        id=candidate.id,
        location="preliminary",
        size="–",
        volume=volume_text(candidate.volume_ml),
        score=score_text(candidate.score),
        state=ReviewState.UNREVIEWED,
        focus=focus,
        details=_DETAILS,
    )
