"""A log level for progress lines, and durations in words."""

from __future__ import annotations

import logging

REPORT = logging.INFO + 5
"""Level that a log without a terminal shows by default, for example one line per study."""

logging.addLevelName(REPORT, "REPORT")


def duration_text(seconds: float) -> str:
    """Return a duration in words.

    Examples
    --------
    >>> duration_text(41.2), duration_text(400), duration_text(7500)
    ('41 s', '7 min', '2 h 05 min')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
