"""Check before signing that a report has the figures of the page that was read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from lesionlens.base.errors import ReadError, UnusableInputError
from lesionlens.base.files.bounded_read import read_model
from lesionlens.site.acceptance.bounds import METRICS
from lesionlens.site.acceptance.report import AcceptanceReport, CaseReport

_MAX_LISTED = 3
_TITLES = {metric.key: metric.title for metric in METRICS.values()}
_TIME_METRICS = {"explaining"}
"""Durations, which differ whenever a case is analysed again."""
_REL_TOL, _ABS_TOL = 1e-6, 1e-9  # rounding of other processors


def read_unsigned_report(record: Path) -> AcceptanceReport:
    """Read the report that is about to be signed.

    Parameters
    ----------
    record : Path
        acceptance.json, whose digest was checked.

    Raises
    ------
    UnusableInputError
        There is none, or it cannot be read.
    """
    try:
        return read_model(record, AcceptanceReport)
    except (OSError, ValueError, ReadError) as error:
        problem = "cannot be read" if record.is_file() else "was not written yet"
        raise UnusableInputError(
            found=f"a signature of a page that {problem}",
            expected="the page of an earlier run of this command, which was read",
            next_step="Run the command without --signed-by, read the page, then sign",
        ) from error


def check_figures_unchanged(read_report: AcceptanceReport, current: AcceptanceReport) -> None:
    """Refuse to sign figures that differ from those of the page that was read.

    Raises
    ------
    UnusableInputError
        They differ; the message names the cases.
    """
    differences = list(_differences(read_report, current))
    if differences:
        suffix = (
            f"; and {len(differences) - _MAX_LISTED} more" if len(differences) > _MAX_LISTED else ""
        )
        raise UnusableInputError(
            found=f"other figures than on the page: {'; '.join(differences[:_MAX_LISTED])}{suffix}",
            expected="the figures of the page that was written before, which alone can be signed",
            next_step="Restore the references and results that were changed; or run the command "
            "without --signed-by, read the new page, then sign. Nothing was signed",
        )


def _differences(read_report: AcceptanceReport, current: AcceptanceReport) -> Iterator[str]:
    remaining = {case.name: case for case in read_report.cases}
    for case in current.cases:
        if (previous := remaining.pop(case.name, None)) is None:
            yield f"{case.name} is new"
        elif (change := _case_change(previous, case)) is not None:
            yield f"{case.name}: {change}"
    yield from (f"{name} is not among the cases any more" for name in remaining)
    if read_report.bounds != current.bounds:
        yield "other bounds"
    if read_report.weights_sha256 != current.weights_sha256 or read_report.engine != current.engine:
        yield "another engine or other weights"


def _case_change(previous: CaseReport, current: CaseReport) -> str | None:
    """Describe what differs in a case; None if nothing does."""
    new_problems = [problem for problem in current.problems if problem not in previous.problems]
    resolved = [problem for problem in previous.problems if problem not in current.problems]
    if new_problems or resolved:
        return new_problems[0] if new_problems else f"no longer so: {resolved[0]}"
    for key in (
        *_TITLES,
        *sorted({*previous.metrics, *current.metrics} - {*_TITLES, *_TIME_METRICS}),
    ):
        previous_value, current_value = previous.metrics.get(key), current.metrics.get(key)
        if not _is_close(previous_value, current_value):
            values = f"{_format_value(previous_value)}, now {_format_value(current_value)}"
            return f"{_TITLES.get(key, key)} {values}"
    names = ("healthy", "sequences", "scanner", "thickness", "inputs_sha256")
    attribute = next(
        (name for name in names if getattr(previous, name) != getattr(current, name)), None
    )
    labels = {"healthy": "whether there are lesions", "inputs_sha256": "the analysed files"}
    return None if attribute is None else f"{labels.get(attribute, attribute)} changed"


def _is_close(a: float | None, b: float | None) -> bool:
    # JSON stores NaN as null
    a, b = (None if value is None or math.isnan(value) else value for value in (a, b))
    if a is None or b is None:
        return a is b
    return math.isclose(a, b, rel_tol=_REL_TOL, abs_tol=_ABS_TOL)


def _format_value(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
