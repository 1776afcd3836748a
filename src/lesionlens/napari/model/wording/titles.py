"""What stands above a study."""

from __future__ import annotations

from lesionlens.base.labels import REFERENCE_ORDER
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.study import Study
from lesionlens.napari.model.state.state import Request, State, compared_now, shown_sequence
from lesionlens.napari.model.wording.candidates import date_words


def caption(state: State) -> str:
    """Return what is shown, and how it is cut."""
    sequence, plane = shown_sequence(state), state.choices.plane
    other = compared_now(state)
    before = "" if other is None else f"{other.words} · "
    return plane.value if sequence is None else f"{before}{sequence.words} · {plane.value}"


def subtitle(study: Study, analysis: Analysis | None, request: Request | None) -> str:
    """Return date, number of sequences and reference of a study."""
    count = len(study.series)
    words = f"{count} sequence{'' if count == 1 else 's'}"
    if request is not None and request.date:
        words = f"{date_words(request.date)} · {words}"
    reference = (
        analysis.prepared.reference
        if analysis is not None
        else next((s for s in REFERENCE_ORDER if s in study.series), None)
    )
    return words if reference is None else f"{words} · reference {reference.words}"
