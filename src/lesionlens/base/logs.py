"""What goes into a log beside Python's own levels."""

from __future__ import annotations

import logging

REPORT = logging.INFO + 5
"""Level of what a log without a terminal holds by default, such as a line for each study."""

logging.addLevelName(REPORT, "REPORT")


def spoken_time(seconds: float) -> str:
    """Return a time as people say it.

    Examples
    --------
    >>> spoken_time(41.2), spoken_time(400), spoken_time(7500)
    ('41 s', '7 min', '2 h 05 min')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
