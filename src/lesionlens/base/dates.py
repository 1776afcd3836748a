"""Conversion of DICOM dates to ISO 8601."""

from __future__ import annotations

import re
from datetime import date

ISO_DATE = re.compile(r"\d{4}-\d\d-\d\d")
"""An ISO 8601 date within a sentence."""


def iso_date(text: str) -> str:
    """Return YYYYMMDD (DICOM DA) as ISO 8601; empty if it is no day of the calendar.

    Examples
    --------
    >>> iso_date("20260105"), iso_date("2026-01-05"), iso_date("1997.04"), iso_date("19701345")
    ('2026-01-05', '2026-01-05', '', '')
    """
    digits = text.replace("-", "")
    if len(digits) != 8 or not digits.isdigit():
        return ""
    try:
        return date.fromisoformat(digits).isoformat()
    except ValueError:
        return ""


def shown_day(text: str) -> str:
    """Return the day of an examination as it is displayed: a session's label has its BIDS prefix.

    Examples
    --------
    >>> shown_day("2026-01-05"), shown_day("1"), shown_day("examination 2"), shown_day("")
    ('2026-01-05', 'ses-1', 'examination 2', '')
    """
    return f"ses-{text}" if text.isalnum() else text


def day_of(text: str) -> date | None:
    """Return a DICOM date or date with time; None if it is not such a date.

    Examples
    --------
    >>> day_of("20260105131500").isoformat(), day_of("20269999")
    ('2026-01-05', None)
    """
    day = iso_date(text[:8])
    return date.fromisoformat(day) if day else None
