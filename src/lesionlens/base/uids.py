"""Check whether a text is a DICOM UID."""

from __future__ import annotations

import re

_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
_MAX_LENGTH = 64


def is_uid(text: str) -> bool:
    """Return whether a text has the form of a UID; any other could hold a name or a path.

    Numbers may begin with 0, which the standard forbids and scanners write.

    Examples
    --------
    >>> is_uid("1.2.840.01"), is_uid("1.2/../3"), is_uid("20260105")
    (True, False, False)
    """
    return len(text) <= _MAX_LENGTH and _UID.fullmatch(text) is not None
