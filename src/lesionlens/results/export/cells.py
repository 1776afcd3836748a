"""Tables as text, and spreadsheet-safe cells: no text is executed as a formula."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
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


def rows_csv(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> str:
    """Return a table of values by column in safe cells; what a row lacks is empty."""
    return csv_text(columns, ([cell(row.get(name)) for name in columns] for row in rows))


def csv_text(columns: Sequence[str], rows: Iterable[Iterable[object]], **form: Any) -> str:
    """Return a table with a header line; values are written as they are, see `cell`.

    Parameters
    ----------
    form : Any
        Of `csv.writer`, such as `delimiter`.
    """
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n", **form)
    writer.writerow(columns)
    writer.writerows(rows)
    return buffer.getvalue()
