"""`lesionlens suggest`: which unread studies would teach most."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lesionlens.cli import options
from lesionlens.cli.console import STOP, Answer, new_table, plain, progress_bar


def suggest(
    results: Annotated[Path, typer.Argument(help="Results of `batch`.", metavar="DIR")],
    studies: Annotated[
        Path | None,
        typer.Option(
            "--studies",
            help="The studies that they were made of: contrast and noise count too.",
            metavar="DIR",
        ),
    ] = None,
    readers: Annotated[
        list[str] | None,
        typer.Option("--reader", help="Whose decisions count, as for `learn`.", metavar="NAME"),
    ] = None,
    count: Annotated[int, typer.Option("--count", help="How many to show.", min=1)] = 20,
    json: options.Json = False,
    debug: options.Debug = False,
) -> Answer:
    """Order the studies that nobody has signed by what reading them would teach, with the reason.

    Unsure outlines, views that disagree, and studies unlike those that were read or stand before
    them in the list. Nothing is computed by the network again.
    """
    del debug
    with progress_bar() as progress:
        progress("loading", 0.0)
        from lesionlens.training.learning.suggest import suggest as run

        found = run(results, studies, readers=tuple(readers or ()), progress=progress, cancel=STOP)
    notes = tuple(f"{name} was left out: {why}" for name, why in found.left_out)
    if json:
        import json as json_text

        rows = [
            {
                "study": one.card.name,
                "reason": one.reason,
                "expected_dice": round(1 - one.card.unsure, 4),
                "disputed": round(one.card.disputed, 4),
                "novelty": round(one.novelty, 4),
            }
            for one in found.order
        ]
        return Answer((json_text.dumps(rows, indent=1, ensure_ascii=False),), notes)
    from rich.text import Text

    table = new_table(("study", "why", "expected Dice", "disputed", "novelty"), words=2)
    for one in found.order[:count]:
        card = one.card
        table.add_row(
            Text(plain(card.name)),
            Text(plain(one.reason)),
            f"{1 - card.unsure:.2f}",
            f"{card.disputed:.0%}",
            f"{one.novelty:.2f}",
        )
    shown = min(count, len(found.order))
    return Answer(
        (table, f"{shown} of {len(found.order)} unread studies; {found.read} read before"), notes
    )
