"""A report is signed only as it was read: with the figures of the page that was written before."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from lesionlens.base.errors import ReadError, UnusableInputError
from lesionlens.base.files.bounded_read import read_model
from lesionlens.site.acceptance.bounds import METRICS
from lesionlens.site.acceptance.report import AcceptanceReport, CaseReport

_SHOWN = 3
_TITLES = {about.key: about.title for about in METRICS.values()}
_TIMES = {"explaining"}
"""Durations, which differ where a case is analysed again."""
_CLOSE, _CLOSE_TO_0 = 1e-6, 1e-9  # rounding of other processors


def read_before(record: Path) -> AcceptanceReport:
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
        what = "cannot be read" if record.is_file() else "was not written yet"
        raise UnusableInputError(
            found=f"a signature of a page that {what}",
            expected="the page of an earlier run of this command, which was read",
            next_step="Run the command without --signed-by, read the page, then sign",
        ) from error


def check_as_read(before: AcceptanceReport, now: AcceptanceReport) -> None:
    """Refuse to sign figures that differ from those of the page that was read.

    Raises
    ------
    UnusableInputError
        They differ; the message names the cases.
    """
    found = list(_differences(before, now))
    if found:
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise UnusableInputError(
            found=f"other figures than on the page: {'; '.join(found[:_SHOWN])}{more}",
            expected="the figures of the page that was written before, which alone can be signed",
            next_step="Restore the references and results that were changed; or run the command "
            "without --signed-by, read the new page, then sign. Nothing was signed",
        )


def _differences(before: AcceptanceReport, now: AcceptanceReport) -> Iterator[str]:
    known = {case.name: case for case in before.cases}
    for case in now.cases:
        if (earlier := known.pop(case.name, None)) is None:
            yield f"{case.name} is new"
        elif (changed := _changed(earlier, case)) is not None:
            yield f"{case.name}: {changed}"
    yield from (f"{name} is not among the cases any more" for name in known)
    if before.bounds != now.bounds:
        yield "other bounds"
    if before.weights_sha256 != now.weights_sha256 or before.engine != now.engine:
        yield "another engine or other weights"


def _changed(before: CaseReport, now: CaseReport) -> str | None:
    """Describe what differs in a case; None if nothing does."""
    new = [problem for problem in now.problems if problem not in before.problems]
    gone = [problem for problem in before.problems if problem not in now.problems]
    if new or gone:
        return new[0] if new else f"no longer so: {gone[0]}"
    for key in (*_TITLES, *sorted({*before.metrics, *now.metrics} - {*_TITLES, *_TIMES})):
        then, here = before.metrics.get(key), now.metrics.get(key)
        if not _same(then, here):
            return f"{_TITLES.get(key, key)} {_figure(then)}, now {_figure(here)}"
    names = ("healthy", "sequences", "scanner", "thickness", "inputs_sha256")
    about = next((name for name in names if getattr(before, name) != getattr(now, name)), None)
    texts = {"healthy": "whether there are lesions", "inputs_sha256": "the analysed files"}
    return None if about is None else f"{texts.get(about, about)} changed"


def _same(a: float | None, b: float | None) -> bool:
    a, b = (None if v is None or math.isnan(v) else v for v in (a, b))  # as JSON holds it
    if a is None or b is None:
        return a is b
    return math.isclose(a, b, rel_tol=_CLOSE, abs_tol=_CLOSE_TO_0)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
