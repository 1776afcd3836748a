"""`lesionlens learn`: fine-tune on signed reviews and propose new weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lesionlens.base.files.safe_paths import check_outside
from lesionlens.base.labels import RESEARCH_USE_NOTICE
from lesionlens.base.text import counted
from lesionlens.cli import checks
from lesionlens.cli.console import STOP, CommandOutput, new_table, plain, progress_bar
from lesionlens.cli.engine_options import DEFAULT_ENGINE, Compute

if TYPE_CHECKING:
    from rich.table import Table

    from lesionlens.training.learning.learn import LearnOutcome
    from lesionlens.training.learning.proposal import Proposal


def learn(
    reviewed: Annotated[
        Path,
        typer.Argument(
            help="Results of `batch`, or a worklist, with signed reviews.",
            metavar="DIR_OF_REVIEWED",
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="Output folder; it will contain patients' images.", metavar="DIR")
    ],
    studies: Annotated[
        Path | None,
        typer.Option(
            help="The analysed studies, as for `batch`; not needed for a worklist.", metavar="DIR"
        ),
    ] = None,
    readers: Annotated[
        list[str] | None,
        typer.Option(
            "--reader",
            help="Reader whose decisions, kept by napari on this machine and not exported, are "
            "used; repeatable. Not needed for a worklist.",
            metavar="NAME",
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--weights",
            help="Initial weights in place of those in use: a file, default, synthetic or an "
            "accepted version such as v1.",
            metavar="FILE|NAME",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(help="Training steps, for the built-in recipe; default: 260.", min=1),
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="Your own recipe (TOML).", metavar="FILE")
    ] = None,
    drawn: Annotated[
        int, typer.Option(help="Number of synthetic brains that test for forgetting.", min=2)
    ] = 12,
    minutes: Annotated[
        float | None,
        typer.Option(
            help="Stop training after this time; run again to continue.", metavar="MIN", min=0
        ),
    ] = None,
    engine_choice: Compute = DEFAULT_ENGINE,
) -> CommandOutput:
    """Fine-tune on signed reviews, and propose the new weights with a one-page comparison.

    Patients are split, synthetic brains are mixed in, and old and new weights are compared on
    held-out patients and on synthetic brains. New weights are used only after
    `lesionlens weights accept`. Ctrl-C keeps finished work; the same command continues.
    """
    if recipe is not None:
        checks.check_without("--recipe", {"--steps": steps})
    for folder in (reviewed, studies):
        if folder is not None:
            check_outside(folder, out)
    STOP.record_only()
    with progress_bar() as context:
        context.progress("loading", 0.0)
        from lesionlens.training.config import read_config
        from lesionlens.training.learning.learn import LearnJob
        from lesionlens.training.learning.learn import learn as run
        from lesionlens.training.learning.recipe import STEPS

        job = LearnJob(
            results=reviewed,
            studies=studies,
            out=out,
            recipe=None if recipe is None else read_config(recipe),
            steps=STEPS if steps is None else steps,
            start=start,
            network=engine_choice,
            synthetic_volumes=drawn,
            readers=tuple(readers or ()),
        )
        outcome = run(job, minutes=minutes, context=context)
    return _output(outcome, out)


def _output(outcome: LearnOutcome, out: Path) -> CommandOutput:
    from lesionlens.training.learning.proposal import PAGE

    gathered, trained = outcome.gathered, outcome.trained
    counts = ", ".join(f"{n} {kind}" for kind, n in gathered.counts.items())
    lines = (
        f"{counted(len(gathered.reviews), 'signed study', 'signed studies')}: {counts}",
        f"{trained.step} of {trained.steps} steps in {trained.minutes:.1f} minutes",
    )
    notes = tuple(
        f"{name} is not used for training: {reason}" for name, reason in gathered.left_out
    )
    proposal = outcome.proposal
    if proposal is None:
        hint = "stopped; the same command continues"
        return CommandOutput(lines, (*notes, hint), status=130 if STOP.is_set() else 0)
    cautions = [f"CAUTION  {plain(caution)}" for caution in proposal.cautions]
    return CommandOutput(
        (
            *lines,
            _comparison(proposal),
            *cautions,
            f"Proposed: {proposal.proposed.version}, in place of {proposal.parent.version}",
            f"Comparison: {plain(str(out / PAGE))}",
            "Nothing has changed yet. To accept: "
            f'lesionlens weights accept "{plain(str(out))}" --by "YOUR NAME"',
            RESEARCH_USE_NOTICE,
        ),
        notes,
    )


def _comparison(proposal: Proposal) -> Table:
    """Return the figures before and after, of patients and of synthetic brains."""
    from lesionlens.training.learning.page import compared_row

    table = new_table(("", "cases", "before", "after", "difference", "95% interval", ""))
    for group, changes in (("held out", proposal.patients), ("synthetic", proposal.drawn)):
        for change in changes:
            title, *cells = compared_row(change)
            table.add_row(f"{group}: {title}", *cells)
        table.add_section()
    return table
