"""Numbers, volumes and recurring phrases as report, window and command line word them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from lesionlens.base.labels import LesionClass, Source
from lesionlens.base.records.findings import HIGH_UNCERTAINTY, Candidate, Location
from lesionlens.base.records.followup import change_text
from lesionlens.base.text import millilitres, percent_digits, score_digits

UNKNOWN = "–"
"""What stands for a value that could not be computed."""
ADDS_SINGLE = "Only one sequence was available: all of it is from that sequence."
ADDS_EQUAL = "No sequence stands out: each shows about the same amount of it."


def number(value: float | None, digits: int = 1, unit: str = "") -> str:
    """Format a number with its unit, or a dash if there is none.

    Examples
    --------
    >>> number(41.26, 1, "mm"), number(-0.4, 0)
    ('41.3 mm', '0')
    """
    return UNKNOWN if value is None else f"{value:z.{digits}f} {unit}".strip()


def volume(value: float | None) -> str:
    """Format ml with suitable digits, or a dash if the volume is unknown.

    Examples
    --------
    >>> [volume(value) for value in (61.23, 0.094, 0.004, 0.0)]
    ['61.2 ml', '0.09 ml', '<0.01 ml', '0 ml']
    """
    return UNKNOWN if value is None else f"{millilitres(value)} ml"


def score(value: float | None) -> str:
    """Format a score, never as 0 or 1; a dash if there is none."""
    return UNKNOWN if value is None else score_digits(value)


def percent(fraction: float) -> str:
    """Format a fraction in percent, without the sign."""
    return number(100 * fraction, 0)


def yes_no(value: bool | None) -> str:
    """Return a truth value in words."""
    return UNKNOWN if value is None else "yes" if value else "no"


def measured_part(*, enhancing: bool) -> str:
    """Return the part that a candidate's diameters measure."""
    return "enhancing part" if enhancing else "whole region"


def location_text(location: Location) -> str:
    """Return a candidate's location."""
    return location.text or "location unknown"


def signed_percent(value: float | None, limits: tuple[float, float] | None = None) -> str:
    """Format a change in percent with its sign; on its side of `limits` that are shown too.

    Examples
    --------
    >>> [signed_percent(value) for value in (12.34, -3.21, -0.01, None)]
    ['+12%', '-3.2%', '+0.0%', '–']
    >>> [signed_percent(value, (-50, 25)) for value in (24.6, 25.4)]
    ['+24.6%', '+25%']
    """
    if value is None:
        return UNKNOWN
    digits = 0 if abs(value) >= 10 else 1
    if limits is not None:
        return percent_beside_limits(value, limits, digits)
    return f"{value:+z.{digits}f}%"


def percent_beside_limits(value: float | None, limits: tuple[float, float], digits: int = 1) -> str:
    """Format a change in percent so that it lies on its side of the limits shown beside it.

    Examples
    --------
    >>> [percent_beside_limits(value, (-50, 25)) for value in (24.6, 24.98, -50.0, None)]
    ['+24.6%', '+24.98%', '-50.0%', '–']
    """
    return UNKNOWN if value is None else f"{change_text(value, limits[value > 0], digits)}%"


def conclusion(
    candidates: Iterable[Candidate], rejected: Iterable[Candidate] = (), omitted: int = 0
) -> str:
    """Return how many candidates were flagged and added; never a statement about disease.

    Parameters
    ----------
    rejected : iterable of Candidate
        Candidates that a reader rejected, if `candidates` are without them.
    omitted : int
        Number of candidates that imported DICOM objects omitted: see `RunInfo.omitted`.
    """
    all_candidates = list(candidates)
    added = sum(c.source is Source.READER for c in all_candidates)
    count = len(all_candidates) - added
    rejected_count = sum(c.source is not Source.READER for c in rejected)
    if count:
        sentence = "1 candidate region" if count == 1 else f"{count} candidate regions"
    else:
        reason = "Nothing is flagged"
        if omitted:
            reason = f"Not accepted by a reader: {rejected_count + omitted}"
        elif rejected_count:
            reason = f"Rejected by a reader: {rejected_count}"
        sentence = f"No candidate region. {reason}; this does not exclude disease."
    return f"{sentence.rstrip('.')}. Added by a reader: {added}." if added else sentence


def uncertainty_text(value: float) -> str:
    """Return the engine's uncertainty in words.

    Examples
    --------
    >>> uncertainty_text(0.24)
    '0.24 (0 certain, 1 undecided)'
    """
    text = f"{number(value, 2)} (0 certain, 1 undecided)"
    if value < HIGH_UNCERTAINTY:
        return text
    return (
        f"{text}, high: when images are mirrored or single sequences omitted, the engine is "
        "nearly undecided about much of it"
    )


def class_probabilities_text(probabilities: Mapping[LesionClass, float]) -> str:
    """Return the engine's own class probabilities, highest first, with a caution."""
    ranked = sorted(probabilities.items(), key=lambda item: -item[1])
    listed = ", ".join(f"{name.display_name} {percent_digits(share)}%" for name, share in ranked)
    return (
        f"{listed} (the engine's own classes, learned on synthetic heads and not calibrated; "
        "not a diagnosis)"
    )


def check_name(name: str) -> str:
    """Return the displayed name of an input check; "missing" would read like a failure."""
    return "sequences" if name == "missing" else name


def moment(text: str) -> str:
    """Format an ISO 8601 time to the minute, in UTC; other text is unchanged.

    Examples
    --------
    >>> moment("2026-01-05T11:15:00+01:00"), moment("some day")
    ('2026-01-05 10:15 UTC', 'some day')
    >>> moment("9999-12-31T23:00:00-05:00")
    '9999-12-31T23:00:00-05:00'
    """
    try:
        return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError):
        return text
