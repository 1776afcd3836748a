"""`lesionlens response`: a RANO 2.0 category as a draft, with its arithmetic, and its signature."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import RESEARCH_USE_NOTICE
from lesionlens.base.records.response import (
    Clinical,
    Criterion,
    Disease,
    Response,
    ResponseChoices,
    ResponseDraft,
    SignedResponse,
    Steroids,
)
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
    nadir: Annotated[
        int | None,
        typer.Option(help="Number of the nadir examination; default: the smallest sum since."),
    ] = None,
    criterion: Annotated[
        Criterion,
        typer.Option(help="Sum products of diameters (bidimensional) or volumes (volumetric)."),
    ] = Criterion.BIDIMENSIONAL,
    disease: Annotated[Disease, typer.Option(help="Disease that is measured.")] = Disease.ENHANCING,
    steroids: Annotated[
        Steroids, typer.Option(help="Steroid dose now, relative to the examination compared with.")
    ] = Steroids.UNKNOWN,
    clinical: Annotated[
        Clinical, typer.Option(help="Clinical status; worse means without another explanation.")
    ] = Clinical.UNKNOWN,
    sign: Annotated[
        str | None, typer.Option(help="Name of the reader who signs the response.", metavar="NAME")
    ] = None,
    category: Annotated[
        Response | None, typer.Option(help="Category to sign; default: the proposed one.")
    ] = None,
    withdraw: Annotated[
        str | None, typer.Option(help="Reason to withdraw the signed response; needs --sign NAME.")
    ] = None,
) -> CommandOutput:
    """Propose a response category by RANO 2.0 as a draft, or sign one.

    Needs a result that was compared with an earlier examination. The signed response is kept
    in the result's review; `export` writes it into report and SR.
    """
    from lesionlens.analysis.followup import compare
    from lesionlens.analysis.followup import response as followup
    from lesionlens.analysis.followup.response_case import name_of
    from lesionlens.results.review import store
    from lesionlens.results.review.reopen import existing_result, read_reviewed

    if category is not None and sign is None:
        raise UnusableInputError(
            found="a category without a reader's name",
            expected="the name of the reader who signs it",
            next_step="Add --sign NAME",
        )
    if withdraw is not None:
        checks.check_without(
            "--withdraw",
            {
                "--category": category,
                "--baseline": None if baseline == 1 else baseline,
                "--nadir": nadir,
                "--criterion": None if criterion is Criterion.BIDIMENSIONAL else criterion,
                "--disease": None if disease is Disease.ENHANCING else disease,
                "--steroids": None if steroids is Steroids.UNKNOWN else steroids,
                "--clinical": None if clinical is Clinical.UNKNOWN else clinical,
            },
        )
    reader = None if sign is None else checks.person_name(sign)
    result = existing_result(result)
    if withdraw is not None:
        store.change_response(result, lambda log: log.withdraw_response(withdraw, reader=reader))
        return CommandOutput(("The response is withdrawn.", _NOT_EXPORTED, RESEARCH_USE_NOTICE))
    saved = read_reviewed(result)
    comparison = _comparison_of(saved)
    choices = ResponseChoices(baseline - 1, None if nadir is None else nadir - 1, criterion,
                              disease, steroids, clinical)  # fmt: skip
    draft = followup.propose(comparison, choices, saved.run.notices)
    examinations = ", ".join(
        f"{n + 1}: {name_of(comparison.points, n)}" for n in range(len(comparison.points))
    )
    left_out = {compare.PRIOR_WAS_COMPARED, compare.EARLIER_LEFT_OUT}
    notes = tuple(notice for notice in saved.run.notices if notice in left_out)
    lines = (plain(f"Examinations {examinations}"), *map(plain, draft.steps), draft.text)
    if reader is None:
        earlier_lines = _earlier_lines(saved.review.response, comparison)
        return CommandOutput((*lines, *earlier_lines, RESEARCH_USE_NOTICE), notes)
    signed = _signed_response(draft, comparison, category, reader)
    store.change_response(result, lambda log: _sign(log, saved.review, signed))
    signature = _signature_line(signed)
    return CommandOutput((*lines[:-1], signature, _NOT_EXPORTED, RESEARCH_USE_NOTICE), notes)


def _comparison_of(saved: SavedResult) -> Comparison:
    """Return the comparison with the current measurements and decisions; refuse one without."""
    if saved.compared is None:
        raise UnusableInputError(
            found="a result without an earlier examination",
            expected="a result compared with an earlier examination",
            next_step="Analyse the study with --prior RESULT_DIR",
        )
    return saved.compared


def _signed_response(
    draft: ResponseDraft, comparison: Comparison, category: Response | None, reader: str
) -> SignedResponse:
    """Sign the category, or the proposed one for None; refuse a draft without one."""
    from lesionlens.analysis.followup import response as followup
    from lesionlens.results.review.log import now

    signed_category = category or draft.category
    if signed_category is None:
        raise UnusableInputError(
            found=f"nothing to sign: {' and '.join(draft.missing)} not entered",
            expected="a category",
            next_step="Enter them, or name the category with --category",
        )
    return followup.sign(draft, comparison, signed_category, reader, now())


def _sign(log: ReviewLog, basis: Review, signed: SignedResponse) -> None:
    """Sign a response whose draft was made from `basis`; refuse if that is no longer the review."""
    if (log.review.events, log.review.responses) != (basis.events, basis.responses):
        raise UnusableInputError(
            found="decisions that another process changed meanwhile; nothing was signed",
            expected="the decisions on which the draft is based",
            next_step="Run the command again without --sign, read the draft, then sign",
        )
    log.sign_response(signed)


def _signature_line(signed: SignedResponse) -> str:
    return f"Signed by {plain(signed.reader)}: {signed.category} ({signed.category.display_name})"


def _earlier_lines(signed: SignedResponse | None, comparison: Comparison) -> tuple[str, ...]:
    """Return the line about an already signed response; empty if there is none."""
    from lesionlens.base.records.signed_measures import is_outdated

    if signed is None:
        return ()
    text = _signature_line(signed)
    if is_outdated(signed, comparison.points):
        text += ", based on other measurements or decisions: sign it again or withdraw it"
    return (text,)
