"""Names and colours of labels, and tables in BIDS format."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence

from lesionlens.base.codes import LABEL_TYPES
from lesionlens.base.labels import Label
from lesionlens.results.export.cells import csv_text

LABEL_COLUMNS = ("index", "name", "abbreviation", "color", "code")
ABBREVIATIONS = {Label.CORE: "NCR", Label.OEDEMA: "ED", Label.ENHANCING: "ET", Label.CAVITY: "RC"}
"""Abbreviations as in BraTS 2023 and 2024."""


def rgb(colour: str) -> tuple[int, int, int]:
    """Return red, green and blue, 0 to 255, of #rrggbb.

    Examples
    --------
    >>> rgb("#E69F00")
    (230, 159, 0)
    """
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue


def tsv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table in BIDS format: tab-separated, `n/a` for unknown values."""
    cells = ([_cell(value) for value in row] for row in rows)
    return csv_text(columns, cells, delimiter="\t", quoting=csv.QUOTE_NONE)


def _cell(value: object) -> str:
    text = "" if value is None else " ".join(str(value).replace('"', "'").split())
    return text or "n/a"


def label_table(labels: Iterable[Label]) -> str:
    """Return a BIDS lookup table for a `_dseg`."""
    codes = {label: LABEL_TYPES[label] for label in labels}
    rows = [
        (int(n), n.display_name, ABBREVIATIONS[n], n.colour, f"{code.scheme}:{code.value}")
        for n, code in codes.items()
    ]
    return tsv(LABEL_COLUMNS, rows)
