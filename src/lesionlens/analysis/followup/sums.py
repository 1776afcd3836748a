"""Sums of the target lesions at baseline, nadir and now, and the category that a reader signs."""

from __future__ import annotations

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.records.followup import (
    PRODUCT_LIMITS,
    VOLUME_LIMITS,
    Comparison,
    change_text,
    measures_of,
    name_of,
    percent,
)
from lesionlens.base.records.response import Response, SignedResponse
from lesionlens.base.text import counted

_UNITS = (("mm²", 0, PRODUCT_LIMITS), ("ml", 2, VOLUME_LIMITS))
"""Unit, decimals and RANO 2.0's limits of the two sums of `Comparison.sums`."""


def sum_lines(comparison: Comparison, baseline: int = 0) -> tuple[str, ...]:
    """Return the sums that a reader needs to choose a category, with the limits of RANO 2.0.

    A response is measured against the baseline, a progression against the nadir: the smallest sum
    from the baseline to the examination before this one.

    Parameters
    ----------
    baseline : int
        Number of the baseline examination, from 0.
    """
    points, sums = comparison.points, comparison.sums()
    if not comparison.targets():
        return ("No lesion is measurable at any examination",)
    lines = [f"{counted(len(comparison.targets()), 'measurable target')} (enhancing part)"]
    for index, (unit, digits, limits) in enumerate(_UNITS):
        values = [row[index] for row in sums]
        known = {n: v for n, v in enumerate(values[:-1]) if v is not None and n >= baseline}
        nadir = min(known, key=known.__getitem__, default=None)
        for name, number, limit in (("baseline", baseline, limits[0]), ("nadir", nadir, limits[1])):
            if number is None:
                lines.append(f"{name}: unknown")
                continue
            before, now = (
                "unknown" if value is None else f"{value:.{digits}f}"
                for value in (values[number], values[-1])
            )
            change = percent(values[number], values[-1])
            changed = "" if change is None else f", {change_text(change, limit)}%"
            lines.append(
                f"{name} {name_of(points, number)}: {before} → {now} {unit}{changed} "
                f"(limit {limit:+.0f}%)"
            )
    unknown = [n for n in range(baseline, len(points)) if None in sums[n]]
    if unknown:
        days = ", ".join(name_of(points, n) for n in unknown)
        lines.append(f"a sum is unknown on {days}: check it by eye")
    return tuple(lines)


def sign(
    comparison: Comparison, baseline: int, category: Response, reader: str, time: str
) -> SignedResponse:
    """Return the category that a reader chose, with the measurements on which it is based.

    Raises
    ------
    UnusableInputError
        The reader's name is empty.
    """
    if not reader.strip():
        raise UnusableInputError(
            "The name of the reader who assesses the response is missing.",
            hint="Name the reader.",
        )
    return SignedResponse(
        category=category,
        baseline=name_of(comparison.points, baseline),
        reader=reader.strip(),
        time=time,
        measures=measures_of(comparison.points),
    )
