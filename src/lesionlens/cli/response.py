"""`lesionlens response`: the sums of the target lesions, and the category that a reader signs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import RESEARCH_USE_NOTICE
from lesionlens.base.records.response import Response, SignedResponse
from lesionlens.cli import checks
from lesionlens.cli.console import CommandOutput, plain

if TYPE_CHECKING:
    from lesionlens.base.records.followup import Comparison
    from lesionlens.base.records.review import Review
    from lesionlens.results.review.log import ReviewLog
    from lesionlens.results.review.saved_result import SavedResult

_NOT_EXPORTED = (
    "Report and DICOM objects do not state this yet: write them with `lesionlens export`"
)


def response(
    result: Annotated[
        Path,
        typer.Argument(help="Result that was compared with a prior (--prior).", metavar="RESULT"),
    ],
    baseline: Annotated[int, typer.Option(help="Number of the baseline examination.")] = 1,
    sign: Annotated[
        str | None, typer.Option(help="Name of the reader who signs the category.", metavar="NAME")
    ] = None,
    category: Annotated[Response | None, typer.Option(help="Category to sign.")] = None,
    withdraw: Annotated[
        str | None, typer.Option(help="Reason to withdraw the signed response; needs --sign NAME.")
    ] = None,
) -> CommandOutput:
    """Show the sums of the target lesions with the limits of RANO 2.0, or sign a category.

    Needs a result that was compared with an earlier examination. The reader chooses the category;
    it is kept in the result's review, and `export` writes it into report and SR.
    """
    from lesionlens.analysis.followup import compare, sums
    from lesionlens.base.records.followup import name_of
    from lesionlens.results.review import store
    from lesionlens.results.review.log import now
    from lesionlens.results.review.reopen import existing_result, read_reviewed

    if withdraw is not None:
        checks.check_without(
            "--withdraw",
            {"--category": category, "--baseline": None if baseline == 1 else baseline},
        )
    elif (category is None) is not (sign is None):
        raise UnusableInputError(
            "Signing needs both a category and a reader's name.",
            hint="Add --category CATEGORY or --sign NAME.",
        )
    reader = None if sign is None else checks.person_name(sign)
    result = existing_result(result)
    if withdraw is not None:
        store.change_response(result, lambda log: log.withdraw_response(withdraw, reader=reader))
        return CommandOutput(("The response is withdrawn.", _NOT_EXPORTED, RESEARCH_USE_NOTICE))
    saved = read_reviewed(result)
    comparison = _comparison_of(saved)
    points = comparison.points
    if not 1 <= baseline < len(points):
        raise UnusableInputError(
            f"Examination {baseline} cannot be the baseline: this one is number {len(points)}.",
            hint="Name an earlier examination with --baseline.",
        )
    examinations = ", ".join(f"{n + 1}: {name_of(points, n)}" for n in range(len(points)))
    left_out = {compare.PRIOR_WAS_COMPARED, compare.EARLIER_LEFT_OUT}
    notes = tuple(notice for notice in saved.run.notices if notice in left_out)
    lines = (
        plain(f"Examinations {examinations}"),
        *map(plain, sums.sum_lines(comparison, baseline - 1)),
        *_doubt_lines(comparison),
    )
    if reader is None or category is None:
        earlier_lines = _earlier_lines(saved.review.response, comparison)
        return CommandOutput((*lines, *earlier_lines, RESEARCH_USE_NOTICE), notes)
    signed = sums.sign(comparison, baseline - 1, category, reader, now())
    store.change_response(result, lambda log: _sign(log, saved.review, signed))
    signature = _signature_line(signed)
    return CommandOutput((*lines, signature, _NOT_EXPORTED, RESEARCH_USE_NOTICE), notes)


def _doubt_lines(comparison: Comparison) -> tuple[str, ...]:
    """Return what must be checked before the sums are trusted."""
    from lesionlens.results.export.followup import FollowupSection

    doubt = FollowupSection(comparison).doubtful
    return (plain(doubt),) if doubt else ()


def _comparison_of(saved: SavedResult) -> Comparison:
    """Return the comparison with the current measurements and decisions; refuse one without."""
    if saved.compared is None:
        raise UnusableInputError(
            "This result is not compared with an earlier examination.",
            hint="Analyse the study with --prior RESULT_DIR.",
        )
    return saved.compared


def _sign(log: ReviewLog, basis: Review, signed: SignedResponse) -> None:
    """Sign a response that was read on `basis`; refuse if that is no longer the review."""
    if (log.review.events, log.review.responses) != (basis.events, basis.responses):
        raise UnusableInputError(
            "Another process changed the decisions meanwhile; nothing was signed.",
            hint="Run the command again without --sign, read the sums, then sign.",
        )
    log.sign_response(signed)


def _signature_line(signed: SignedResponse) -> str:
    return f"Signed by {plain(signed.reader)}: {signed.category} ({signed.category.display_name})"


def _earlier_lines(signed: SignedResponse | None, comparison: Comparison) -> tuple[str, ...]:
    """Return the line about an already signed response; empty if there is none."""
    from lesionlens.base.records.followup import is_outdated

    if signed is None:
        return ()
    text = _signature_line(signed)
    if is_outdated(signed, comparison.points):
        text += ", based on other measurements or decisions: sign it again or withdraw it"
    return (text,)
