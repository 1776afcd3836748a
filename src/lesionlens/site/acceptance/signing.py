"""Compare a report with the page in its folder: for the history, and before it is signed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from lesionlens.base.errors import ReadError, UnusableInputError
from lesionlens.base.files.bounded_read import read_model
from lesionlens.site.acceptance.bounds import AcceptanceBounds
from lesionlens.site.acceptance.report import AcceptanceReport, CaseReport, EarlierPage

_MAX_LISTED = 3
_TIME_METRICS = {"explaining"}
"""Durations, which differ whenever a case is analysed again."""
_REL_TOL, _ABS_TOL = 1e-6, 1e-9  # rounding of other processors


def read_previous_report(record: Path, *, signing: bool) -> AcceptanceReport | None:
    """Read the report that is about to be replaced; None if there is none.

    Parameters
    ----------
    record : Path
        acceptance.json, whose digest was checked.
    signing : bool
        Whether it is to be signed, so that it must exist.

    Raises
    ------
    UnusableInputError
        It is to be signed, and there is none, or it cannot be read.
    """
    try:
        return read_model(record, AcceptanceReport)
    except (OSError, ValueError, ReadError) as error:
        if not signing:
            return None
        problem = "cannot be read" if record.is_file() else "was not written yet"
        raise UnusableInputError(
            found=f"a signature of a page that {problem}",
            expected="the page of an earlier run of this command, which was read",
            next_step="Run the command without --signed-by, read the page, then sign",
        ) from error


def with_history(previous: AcceptanceReport, current: AcceptanceReport) -> AcceptanceReport:
    """Return a report that names the page that it replaces, and all before, if they differ."""
    earlier, changes = previous.earlier, _changes(previous, current)
    if changes:
        page = EarlierPage(made=previous.made, passed=previous.passed, changes=changes)
        earlier = (*earlier, page)
    return current.model_copy(update={"earlier": earlier})


def check_figures_unchanged(read_report: AcceptanceReport, current: AcceptanceReport) -> None:
    """Refuse to sign figures that differ from those of the page that was read.

    Raises
    ------
    UnusableInputError
        They differ; the message names the cases.
    """
    changes = _changes(read_report, current)
    if changes:
        raise UnusableInputError(
            found=f"figures that differ from those on the page: {changes}",
            expected="the figures of the page that was written before, which alone can be signed",
            next_step="Restore the references and results that were changed; or run the command "
            "without --signed-by, read the new page, then sign. Nothing was signed",
        )


def check_same_weights(read_report: AcceptanceReport, weights_sha256: str | None) -> None:
    """Refuse to sign a page of other weights before the results that it names are replaced.

    Parameters
    ----------
    read_report : AcceptanceReport
        The page that was read.
    weights_sha256 : str or None
        Weights with which cases would be analysed now; None if unknown.

    Raises
    ------
    UnusableInputError
        They differ.
    """
    tested = read_report.weights_sha256
    if tested is None or weights_sha256 is None or tested == weights_sha256:
        return
    raise UnusableInputError(
        found=f"other weights than those of the page (SHA-256 {weights_sha256[:12]}…)",
        expected=f"those that were tested (SHA-256 {tested[:12]}…)",
        next_step="Name them with --weights; or run the command without --signed-by, read the new "
        "page, then sign. No case was analysed, and nothing was signed",
    )


def _changes(previous: AcceptanceReport, current: AcceptanceReport) -> str:
    """Return the first differences of two reports as text; empty if there is none."""
    differences = list(_differences(previous, current))
    if len(differences) > _MAX_LISTED:
        differences[_MAX_LISTED:] = [f"and {len(differences) - _MAX_LISTED} more"]
    return "; ".join(differences)


def _differences(previous: AcceptanceReport, current: AcceptanceReport) -> Iterator[str]:
    if previous.bounds != current.bounds:
        yield f"other bounds ({', '.join(_bound_changes(previous.bounds, current.bounds))})"
    if previous.weights_sha256 != current.weights_sha256 or previous.engine != current.engine:
        yield "another engine or other weights"
    remaining = {case.name: case for case in previous.cases}
    changes = []
    for case in current.cases:
        if (earlier := remaining.pop(case.name, None)) is None:
            changes.append(f"{case.name} is new")
        elif (change := _case_change(earlier, case)) is not None:
            changes.append(f"{case.name}: {change}")
    yield from (f"{name} is no longer among the cases" for name in remaining)
    yield from changes


def _bound_changes(previous: AcceptanceBounds, current: AcceptanceBounds) -> Iterator[str]:
    tables = [
        {"least_cases": bounds.least_cases, "least_cases_in_all": bounds.least_cases_in_all,
         "surely": bounds.surely}
        | {f"overall {metric}": bound for metric, bound in bounds.overall.items()}
        | {f"groups {metric}": bound for metric, bound in bounds.groups.items()}
        for bounds in (previous, current)
    ]  # fmt: skip
    for key in dict.fromkeys([*tables[0], *tables[1]]):
        old, new = (table.get(key) for table in tables)
        if old != new:
            yield f"{key} {_bound_text(old)}, now {_bound_text(new)}"


def _bound_text(bound: float | None) -> str:
    if bound is None:
        return "none"
    return str(bound).lower() if isinstance(bound, bool) else f"{bound:g}"


def _case_change(previous: CaseReport, current: CaseReport) -> str | None:
    """Describe that a case differs; None if it does not."""
    new_problems = [problem for problem in current.problems if problem not in previous.problems]
    if new_problems:
        return new_problems[0]
    resolved = [problem for problem in previous.problems if problem not in current.problems]
    if resolved:
        return f"no longer so: {resolved[0]}"
    keys = {*previous.metrics, *current.metrics} - _TIME_METRICS
    are_close = all(_is_close(previous.metrics.get(k), current.metrics.get(k)) for k in keys)
    is_same = are_close and previous.model_copy(update={"metrics": current.metrics}) == current
    return None if is_same else "its figures, attributes or files changed"


def _is_close(a: float | None, b: float | None) -> bool:
    # JSON stores NaN as null
    a, b = (None if value is None or math.isnan(value) else value for value in (a, b))
    if a is None or b is None:
        return a is b
    return math.isclose(a, b, rel_tol=_REL_TOL, abs_tol=_ABS_TOL)
