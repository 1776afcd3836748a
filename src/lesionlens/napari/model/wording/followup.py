"""Texts of the panel about a comparison with an earlier examination: one line per lesion."""

from __future__ import annotations

from dataclasses import dataclass

from lesionlens.analysis.followup.compare import PATIENT_UNKNOWN
from lesionlens.base.labels import ReviewState
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.followup import (
    PRODUCT_LIMITS,
    VOLUME_LIMITS,
    Change,
    ChangeKind,
    Comparison,
    percent,
)
from lesionlens.napari.model.wording.candidates import volume_words
from lesionlens.results.export.followup import (
    Curves,
    curves_of,
    dates_of,
    doubt_words,
    resection_words,
    returned_words,
)
from lesionlens.results.export.words import load


@dataclass(frozen=True, slots=True)
class ShownFollowup:
    """A comparison in the panel, with current outlines and decisions."""

    title: str
    lines: tuple[tuple[int | None, str], ...]
    """Candidate, None if it is gone, and description of each change."""
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
        signature = f"{signature[:-1]}, based on other measurements: sign it again or withdraw it."
    found = analysis.compared
    sums = f"{signature} {sums_of(found)}"
    curves = None if found is None else curves_of(found, load("en"))
    doubt = "" if found is None else doubt_words(found, load("en"))
    if PATIENT_UNKNOWN in analysis.run.notices:
        doubt = f"{PATIENT_UNKNOWN}. {doubt}".strip()
    return ShownFollowup(title_of(analysis), lines_of(analysis), sums.strip(), doubt, curves, focus)


def title_of(analysis: Analysis) -> str:
    """Return the date of the prior, and the registered sequence."""
    found = analysis.followup
    if found is None:
        return ""
    since = found.points[-2].date or "the earlier examination"
    return f"Since {since}; registered by {found.alignment.sequence}"


def lines_of(analysis: Analysis) -> tuple[tuple[int | None, str], ...]:
    """Return the candidate (None if it is gone) and the description of each change."""
    found = analysis.compared
    if found is None:
        return ()
    lines = tuple((None if c.now is None else c.now.id, _words(c, found)) for c in found.changes)
    resected = resection_words(found.resection, load("en")).strip()
    return (*lines, (None, resected)) if resected else lines


def sums_of(found: Comparison | None) -> str:
    """Return the target sums and RANO 2.0's limits; empty if nothing is measurable."""
    if found is None or not found.targets():
        return ""
    *earlier, now = found.sums()
    product, volume = (percent(earlier[-1][at], now[at]) for at in (0, 1))
    changed = _compared(volume, VOLUME_LIMITS), _compared(product, PRODUCT_LIMITS)
    return (
        f"{len(found.targets())} measurable: enhancing {changed[0]} ml, {changed[1]} mm². "
        f"RANO 2.0 names {PRODUCT_LIMITS[0]:.0f}/+{PRODUCT_LIMITS[1]:.0f} % of mm², "
        f"{VOLUME_LIMITS[0]:.0f}/+{VOLUME_LIMITS[1]:.0f} % of ml; a response is a reader's."
    )


def _words(change: Change, found: Comparison) -> str:
    before = None if change.before is None else change.before.whole_ml
    now = None if change.now is None else change.now.whole_ml
    if change.kind is ChangeKind.NEW:
        back = returned_words(change, found, dates_of(found, load("en")), load("en"))
        words = f"new, {volume_words(now)}{f'; {back}' if back else ''}"
    elif change.kind is ChangeKind.GONE:
        words = f"no longer flagged, was {volume_words(before)}"
    elif change.kind is ChangeKind.SPLIT:
        words = f"split off, {volume_words(now)}"
    elif change.kind is ChangeKind.MERGED:
        words = f"merged, was {volume_words(before)}"
    else:
        words = (
            f"{volume_words(before)} → {volume_words(now)} · {_signed(change.volume_percent)} · "
            f"mm² {_signed(change.product_percent)}"
        )
    beside = ", ".join(str(one) for one in change.beside)
    together = found.together(change) if change.kind is ChangeKind.MATCHED else None
    if together is not None:
        words += f"; with all that merged or split {_signed(percent(*together))}"
    if change.before is not None and change.before.state is ReviewState.REJECTED:
        words += "; rejected then"
    if change.joint is not None:
        words += f"; by one criterion for both {change.joint.text}"
    return f"{change.shown.place}: {words}{f' (overlaps {beside} too)' if beside else ''}"


def _signed(value: float | None) -> str:
    return "unknown" if value is None else f"{value:+z.0f} %"


def _compared(value: float | None, limits: tuple[float, float]) -> str:
    return "unknown" if value is None else load("en").compared(value, limits)
