"""The prior examination of `analyze`: found early, compared at the end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.run_context import RunContext
from lesionlens.base.text import millilitres, shown_day
from lesionlens.cli.console import new_table

if TYPE_CHECKING:
    from rich.table import Table

    from lesionlens.base.records.analysis import Analysis
    from lesionlens.base.records.study import Study
    from lesionlens.results.lens import Lens
    from lesionlens.results.review.prior import LocatedPrior


def find(
    prior: Path | None, study: Path | None, now: Study, *, same_patient: bool = False
) -> LocatedPrior | None:
    """Find the prior examination before the analysis begins; None if none was requested.

    Raises
    ------
    UnusableInputError
        Only its study was named, or it cannot be used.
    """
    if prior is None and study is None:
        return None
    from lesionlens.results.review.prior import find_prior

    if prior is None:
        raise UnusableInputError(
            "--prior-study needs --prior.",
            hint="Name the prior result, or the study itself, with --prior.",
        )
    return find_prior(prior, now, study, same_patient=same_patient)


def compare(
    analysis: Analysis,
    located_prior: LocatedPrior | None,
    lens: Lens,
    context: RunContext,
) -> Analysis:
    """Compare an analysis with the prior examination, if there is one."""
    if located_prior is None:
        return analysis
    from lesionlens.analysis.followup import compare as followup
    from lesionlens.analysis.followup.patient import examination_of
    from lesionlens.results.review.prior import open_prior

    context.progress("opening the prior examination", 0.0)

    def analyse(study: Study) -> Analysis:
        return lens(study, context=context).analysis

    prior = open_prior(located_prior, context, analyse)
    context.progress("comparing with the prior examination", 0.5)
    return followup.compare(analysis, examination_of(analysis.study), prior, context=context)


def table_of(analysis: Analysis) -> tuple[str | Table, ...]:
    """Return the printed comparison; empty without one."""
    comparison = analysis.compared
    if comparison is None:
        return ()
    from lesionlens.base.records.followup import (
        PRODUCT_LIMITS,
        VOLUME_ERROR_PERCENT,
        VOLUME_LIMITS,
        ChangeKind,
    )
    from lesionlens.results.export.followup import KIND_NAMES, FollowupSection

    section, notes = FollowupSection(comparison), []
    prior_date = shown_day(comparison.points[-2].date) or "an earlier day"
    headings = ("", "where", "ml before", "ml now", "change", "product")
    table = new_table(headings, text_columns=2)
    for change in comparison.changes:
        matched = change.kind is ChangeKind.MATCHED
        table.add_row(
            str(change.now.id) if change.now else "",
            change.shown.place,
            _ml(change.before.whole_ml if change.before else None),
            _ml(change.now.whole_ml if change.now else None),
            _percent(change.volume_percent, VOLUME_LIMITS) if matched else KIND_NAMES[change.kind],
            _percent(change.product_percent, PRODUCT_LIMITS) if matched else "",
        )
        if change.now:
            remarks = section.returned(change), section.together(change)
            notes += [f"Candidate {change.now.id}: {text}" for text in remarks if text]
    title = (
        f"Compared with the examination of {prior_date}; median error of a change in volume "
        f"{VOLUME_ERROR_PERCENT:.0f}%"
    )
    if section.doubtful:
        title += f". {section.doubtful}"
    return (title, table, *notes)


def _ml(value: float | None) -> str:
    return "" if value is None else millilitres(value)


def _percent(value: float | None, limits: tuple[float, float]) -> str:
    from lesionlens.results.export.wording import percent_beside_limits

    return "unknown" if value is None else percent_beside_limits(value, limits)
