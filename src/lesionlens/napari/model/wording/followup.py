"""Texts of the panel about a comparison with an earlier examination: one line per lesion."""

from __future__ import annotations

from dataclasses import dataclass

from lesionlens.analysis.followup.compare import ORDER_UNKNOWN, PATIENT_UNKNOWN
from lesionlens.base.labels import ReviewState
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.followup import (
    PRODUCT_LIMITS,
    VOLUME_ERROR_PERCENT,
    VOLUME_LIMITS,
    Change,
    ChangeKind,
    Comparison,
    percent,
)
from lesionlens.base.text import shown_day
from lesionlens.napari.model.state.state import State
from lesionlens.napari.model.wording.candidates import volume_text
from lesionlens.results.export import wording
from lesionlens.results.export.followup import (
    Curves,
    FollowupSection,
    resection_text,
)


@dataclass(frozen=True, slots=True)
class ShownFollowup:
    """A comparison in the panel, with current outlines and decisions."""

    title: str
    lines: tuple[tuple[int | None, str], ...]
    """Candidate (None if it is no longer flagged) and description of each change."""
    sums: str
    doubt: str = ""
    """Why the comparison has to be checked first; empty if nothing speaks against it."""
    curves: Curves | None = None
    """Volumes over all examinations; None without a comparison."""
    focus: int | None = None
    """Candidate whose curve is highlighted."""


def shown_followup(analysis: Analysis, focus: int | None = None) -> ShownFollowup | None:
    """Return the comparison for the panel; None if there is none."""
    signed = analysis.review.response
    if analysis.followup is None and signed is None:
        return None
    signature = "" if signed is None else f"Response signed by {signed.reader}: {signed.category}."
    if analysis.response_outdated:
        basis = "based on other measurements or decisions"
        signature = f"{signature[:-1]}, {basis}: sign it again or withdraw it."
    comparison = analysis.compared
    sums = f"{signature} {sums_of(comparison)}"
    section = None if comparison is None else FollowupSection(comparison)
    curves, doubt = (None, "") if section is None else (section.curves, section.doubtful)
    for notice in (ORDER_UNKNOWN, PATIENT_UNKNOWN):
        if notice in analysis.run.notices:
            doubt = f"{notice}. {doubt}".strip()
    return ShownFollowup(title_of(analysis), lines_of(analysis), sums.strip(), doubt, curves, focus)


def missing_sequence_text(state: State) -> str:
    """Return that the earlier examination lacks the shown sequence; empty if it has it."""
    compared, shown = state.choices.views.compared, state.choices.sequence
    if state.study is None or shown is None or compared is None or shown in compared.volumes:
        return ""
    shared = ", ".join(s.display_name for s in state.study.series if s in compared.volumes)
    return (
        f"The earlier examination has no {shown.display_name}. Show one that both have: {shared}."
    )


def title_of(analysis: Analysis) -> str:
    """Return the date of the prior, and the registered sequence."""
    comparison = analysis.followup
    if comparison is None:
        return ""
    since = shown_day(comparison.points[-2].date) or "the earlier examination"
    return (
        f"Since {since}; registered by {comparison.alignment.sequence}; "
        f"median error of a change in volume {VOLUME_ERROR_PERCENT:.0f}%"
    )


def lines_of(analysis: Analysis) -> tuple[tuple[int | None, str], ...]:
    """Return the candidate (None if no longer flagged) and the description of each change."""
    comparison = analysis.compared
    if comparison is None:
        return ()
    lines = tuple(
        (None if c.now is None else c.now.id, _change_text(c, comparison))
        for c in comparison.changes
    )
    resection = resection_text(comparison.resection).strip()
    return (*lines, (None, resection)) if resection else lines


def sums_of(comparison: Comparison | None) -> str:
    """Return the target sums and RANO 2.0's limits; empty if nothing is measurable."""
    if comparison is None or not comparison.targets():
        return ""
    *earlier, current = comparison.sums()
    product, volume = (percent(earlier[-1][index], current[index]) for index in (0, 1))
    changes = _compared(volume, VOLUME_LIMITS), _compared(product, PRODUCT_LIMITS)
    return (
        f"{len(comparison.targets())} measurable: enhancing volume {changes[0]}, "
        f"product of diameters {changes[1]}. Limits of RANO 2.0: "
        f"volume {VOLUME_LIMITS[0]:.0f}/+{VOLUME_LIMITS[1]:.0f}%, "
        f"product {PRODUCT_LIMITS[0]:.0f}/+{PRODUCT_LIMITS[1]:.0f}%; the reader decides."
    )


def _change_text(change: Change, comparison: Comparison) -> str:
    section = FollowupSection(comparison)
    before = None if change.before is None else change.before.whole_ml
    now = None if change.now is None else change.now.whole_ml
    if change.kind is ChangeKind.NEW:
        returned = section.returned(change)
        text = f"new, {volume_text(now)}{f'; {returned}' if returned else ''}"
    elif change.kind is ChangeKind.GONE:
        text = f"no longer flagged, was {volume_text(before)}"
    elif change.kind is ChangeKind.SPLIT:
        text = f"split off, {volume_text(now)}"
    elif change.kind is ChangeKind.MERGED:
        text = f"merged, was {volume_text(before)}"
    else:
        text = (
            f"{volume_text(before)} → {volume_text(now)} · "
            f"{wording.signed_percent(change.volume_percent, VOLUME_LIMITS)} · "
            f"mm² {wording.signed_percent(change.product_percent, PRODUCT_LIMITS)}"
        )
    total = comparison.linked_total_ml(change) if change.kind is ChangeKind.MATCHED else None
    if total is not None:
        changed = wording.signed_percent(percent(*total), VOLUME_LIMITS)
        text += f"; including merged and split regions {changed}"
    if change.before is not None and change.before.state is ReviewState.REJECTED:
        text += "; rejected then"
    linked = section.linked(change)
    return f"{change.shown.place}: {text}{f'; {linked}' if linked else ''}"


def _compared(value: float | None, limits: tuple[float, float]) -> str:
    return "unknown" if value is None else wording.percent_beside_limits(value, limits)
