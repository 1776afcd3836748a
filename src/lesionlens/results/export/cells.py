"""CSV tables with spreadsheet-safe cells: no text is executed as a formula."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from lesionlens.base.text import safe_cell


def cell(value: Any) -> str | int | float:
    """Return a safe cell.

    Examples
    --------
    >>> cell("=1+1"), cell(-3.5), cell(None), cell(True)
    ("'=1+1", -3.5, '', 'true')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return safe_cell(value)
    number: int | float = value
    return number


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table with a header line; values are written as they are, see `cell`."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return buffer.getvalue()
