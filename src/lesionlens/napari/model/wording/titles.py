"""Titles of a study."""

from __future__ import annotations

from dataclasses import replace

from lesionlens.analysis.followup.compare import EARLIER_LEFT_OUT, PRIOR_WAS_COMPARED
from lesionlens.analysis.followup.compare import notices_of as notices_of_comparison
from lesionlens.base.labels import REFERENCE_ORDER
from lesionlens.base.records.analysis import Analysis, without_settled
from lesionlens.base.records.review import Review
from lesionlens.base.records.study import Study
from lesionlens.base.text import counted
from lesionlens.imaging.reading.open import REPORTED
from lesionlens.napari.model.state.identity import StudyIdentity
from lesionlens.napari.model.state.state import State, compared_now, shown_sequence
from lesionlens.napari.model.wording.candidates import date_text


def caption(state: State) -> str:
    """Return sequence and plane, or what is shown instead of the sequence."""
    sequence = shown_sequence(state)
    parts = [state.choices.plane.value]
    compared = compared_now(state)
    if sequence is not None and (compared is None or not compared.other_image):
        parts.insert(0, sequence.display_name)
    if sequence is not None and compared is not None:
        parts.insert(0, compared.description)
    return " · ".join(parts)


def patient_text(identity: StudyIdentity) -> str:
    """Return patient, identifier and date of a study in one line."""
    return " · ".join(replace(identity, born="", study="").lines)


def notices_of(study: Study, analysis: Analysis | None, review: Review) -> tuple[str, ...]:
    """Return the notices of reading and analysis that are shown nowhere else in the panel.

    Failed checks are listed under the quality, doubts of a comparison beside it, and redrawn
    outlines in the table.
    """
    notices = study.notices
    if analysis is None and study.has_report:
        notices = (REPORTED, *notices)
    if analysis is not None:
        findings = analysis.network.findings
        elsewhere = notices_of_comparison(analysis.followup) - {
            PRIOR_WAS_COMPARED,
            EARLIER_LEFT_OUT,
        }
        elsewhere |= {check.message for check in findings.quality}
        all_notices = (
            *notices,
            *analysis.prepared.notices,
            *analysis.run.notices,
            *findings.notices,
        )
        current_notices = without_settled(all_notices, review)
        notices = tuple(notice for notice in current_notices if notice not in elsewhere)
    return notices


def subtitle(study: Study, analysis: Analysis | None, state: State) -> str:
    """Return number of sequences and reference of a study, and its date if no file has it."""
    text = counted(len(study.series), "sequence")
    if state.request is not None and state.request.date and not state.identity.date:
        text = f"{date_text(state.request.date)} · {text}"
    reference = next((s for s in REFERENCE_ORDER if s in study.series), None)
    if analysis is not None:
        reference = analysis.prepared.reference
    return text if reference is None else f"{text} · reference {reference.display_name}"


def sign_button_text(state: State, *, flagged: bool) -> str:
    """Return the text of the button for signing or withdrawing."""
    if state.review.signed is not None:
        return "Withdraw…"
    return "Nothing further" if flagged else "Nothing seen"
