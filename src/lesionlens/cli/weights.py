"""`lesionlens weights`: the weights in use, and who accepted them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lesionlens.cli import checks
from lesionlens.cli.console import Answer, new_table, plain

By = Annotated[str, typer.Option(help="Name of the person who decides; recorded.", metavar="NAME")]
Why = Annotated[str, typer.Option(help="Reason; recorded.")]


def show() -> Answer:
    """List the weights of this machine's user: those of the package and all accepted versions.

    `synthetic` was trained on no patient; use it for single runs with --weights synthetic.
    """
    from rich.text import Text

    from lesionlens.network.versions import (
        SHIPPED_NAME,
        SHIPPED_NAMES,
        WeightsStore,
        shipped_record,
    )

    store = WeightsStore()
    used = store.in_use
    table = new_table(("", "weights", "version", "SHA-256", "from", "accepted by"), words=6)
    for name in SHIPPED_NAMES:
        about = shipped_record(name)
        mark = "in use" if used is None and name == SHIPPED_NAME else ""
        number = f"{about['version']}, of the package"
        table.add_row(mark, name, number, f"{about['sha256'][:12]}…", "", "")
    for one in store.versions:
        table.add_row(
            "in use" if used is not None and used.name == one.name else "",
            one.name,
            one.version,
            f"{one.sha256[:12]}…",
            store.parent_of(one) or f"{one.parent_sha256[:12]}…",
            Text(plain(f"{one.accepted_by}, {one.accepted[:10]}")),
        )
    lines = [
        plain(f"{act.time}  {act.use} in use: {act.by}" + (f", {act.why}" if act.why else ""))
        for act in store.acts
    ]
    return Answer((table, *lines))


def accept(
    proposed: Annotated[
        Path, typer.Argument(help="Output folder of `lesionlens learn`.", metavar="DIR")
    ],
    by: By,
    why: Why = "",
) -> Answer:
    """Keep proposed weights as a new version, and use them from now on.

    Read the comparison in DIR first. Every analysis without --weights uses them; results name them
    by version and SHA-256.
    """
    from lesionlens.network.versions import Lineage, WeightsStore
    from lesionlens.training.learning.proposal import WEIGHTS, read_proposal

    name = checks.person(by)
    found = read_proposal(proposed)
    lineage = Lineage(found.proposed.version, found.parent.sha256, found.trained_on, found.held_out)
    new = WeightsStore().accept(proposed / WEIGHTS, lineage, by=name, note=why)
    return Answer(
        (
            f"{new.name} ({new.version}, SHA-256 {new.sha256[:12]}…) is in use from now on",
            f'To revert: lesionlens weights back --by "{plain(name)}"',
        ),
        tuple(plain(one) for one in found.cautions),
    )


def use(
    version: Annotated[
        str,
        typer.Argument(help="v1, v2, …, or default for the packaged weights.", metavar="VERSION"),
    ],
    by: By,
    why: Why = "",
) -> Answer:
    """Select a version: any that was accepted before, or the packaged weights."""
    from lesionlens.network.versions import WeightsStore

    WeightsStore().use(version, by=checks.person(by), why=why)
    return Answer((f"{plain(version)} is in use from now on",))


def back(by: By, why: Why = "") -> Answer:
    """Revert to the weights that the current version was trained from. Nothing is deleted.

    If these are no accepted version, the packaged weights are used, with a note.
    """
    from lesionlens.network.versions import WeightsStore

    store = WeightsStore()
    taken = store.in_use
    name = store.back(by=checks.person(by), why=why)
    if taken is None:
        return Answer((f"{name} is in use from now on",))
    parent = store.parent_of(taken)
    origin = parent or f"weights that are not kept here (SHA-256 {taken.parent_sha256[:12]}…)"
    notes = () if parent == name else (f"{taken.name} was trained from {origin}, not from {name}",)
    return Answer((f"{taken.name} reverted; {name} is in use from now on",), notes)
