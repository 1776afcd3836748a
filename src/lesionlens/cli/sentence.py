"""`lesionlens sentence`: print a result as a sentence to paste into a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lesionlens.cli import options
from lesionlens.cli.console import CommandOutput


def sentence(
    result: Annotated[Path, typer.Argument(help="Folder of a saved result.", metavar="RESULT")],
    candidate: Annotated[
        int | None, typer.Option(help="Number of one candidate; default: the whole study.")
    ] = None,
    sentence_template: options.SentenceTemplate = None,
) -> CommandOutput:
    """Print a result, or one candidate of it, as a sentence to paste into a report."""
    from lesionlens.results.result import Result

    saved = Result.open(result)
    template = "" if sentence_template is None else sentence_template
    return CommandOutput((saved.sentence(candidate, template=template),))
