"""`lesionlens weights`: the weights in use, and who accepted them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lesionlens.cli import checks
from lesionlens.cli.console import CommandOutput, new_table, plain

By = Annotated[str, typer.Option(help="Name of the person who decides; recorded.", metavar="NAME")]
Why = Annotated[str, typer.Option(help="Reason; recorded.")]


def show() -> CommandOutput:
    """List the weights of this machine's user: those of the package and all accepted versions.

    `synthetic` was trained on no patient; use it for single runs with --weights synthetic.
    """
    from rich.text import Text

    from lesionlens.network.shipped_weights import DEFAULT_NAME, SHIPPED, shipped_record
    from lesionlens.network.versions import WeightsStore

    store = WeightsStore()
    version_in_use = store.in_use
    table = new_table(("", "weights", "version", "SHA-256", "from", "accepted by"), text_columns=6)
    for name in SHIPPED:
        record = shipped_record(name)
        use_mark = "in use" if version_in_use is None and name == DEFAULT_NAME else ""
        version_text = f"{record['version']}, of the package"
        table.add_row(use_mark, name, version_text, f"{record['sha256'][:12]}…", "", "")
    for version in store.versions:
        table.add_row(
            "in use" if version_in_use is not None and version_in_use.name == version.name else "",
            version.name,
            version.version,
            f"{version.sha256[:12]}…",
            store.parent_of(version) or f"{version.parent_sha256[:12]}…",
            Text(plain(f"{version.accepted_by}, {version.accepted[:10]}")),
        )
    lines = [
        plain(f"{act.time}  {act.use} in use: {act.by}" + (f", {act.why}" if act.why else ""))
        for act in store.acts
    ]
    return CommandOutput((table, *lines))


def accept(
    proposed: Annotated[
        Path, typer.Argument(help="Output folder of `lesionlens learn`.", metavar="DIR")
    ],
    by: By,
    why: Why = "",
) -> CommandOutput:
    """Keep proposed weights as a new version, and use them from now on.

    Read the comparison in DIR first. Every analysis without --weights uses them; results name them
    by version and SHA-256.
    """
    from lesionlens.network.shipped_weights import DEFAULT_NAME, shipped_record
    from lesionlens.network.versions import Lineage, WeightsStore
    from lesionlens.training.learning.proposal import WEIGHTS, read_proposal

    name = checks.person_name(by)
    proposal = read_proposal(proposed)
    lineage = Lineage(
        proposal.proposed.version, proposal.parent.sha256, proposal.trained_on, proposal.held_out
    )
    store = WeightsStore()
    replaced = store.in_use
    sha256 = replaced.sha256 if replaced else shipped_record(DEFAULT_NAME)["sha256"]
    accepted = store.accept(proposed / WEIGHTS, lineage, by=name, note=why)
    cautions = proposal.cautions
    if sha256 != proposal.parent.sha256:
        cautions += (
            f"Until now {replaced.name if replaced else DEFAULT_NAME} was in use, but these "
            f"weights were trained from {proposal.parent.version} and compared with it alone",
        )
    return CommandOutput(
        (
            f"{accepted.name} ({accepted.version}, SHA-256 {accepted.sha256[:12]}…) is in use from "
            "now on",
            f'To revert: lesionlens weights back --by "{plain(name)}"',
        ),
        tuple(plain(caution) for caution in cautions),
    )


def use(
    version: Annotated[
        str,
        typer.Argument(help="v1, v2, …, or default for the packaged weights.", metavar="VERSION"),
    ],
    by: By,
    why: Why = "",
) -> CommandOutput:
    """Select a version: any that was accepted before, or the packaged weights."""
    from lesionlens.network.versions import WeightsStore

    if WeightsStore().use(version, by=checks.person_name(by), why=why):
        return CommandOutput((f"{plain(version)} is in use from now on",))
    return CommandOutput((f"{plain(version)} was already in use; nothing was changed",))


def back(by: By, why: Why = "") -> CommandOutput:
    """Revert to the weights that the current version was trained from. Nothing is deleted.

    If these are not an accepted version, the packaged weights are used, with a note.
    """
    from lesionlens.network.versions import WeightsStore

    store = WeightsStore()
    reverted = store.in_use
    name = store.back(by=checks.person_name(by), why=why)
    if reverted is None:
        return CommandOutput((f"{name} is in use from now on",))
    parent = store.parent_of(reverted)
    origin = parent or f"weights that are not kept here (SHA-256 {reverted.parent_sha256[:12]}…)"
    notes = (
        () if parent == name else (f"{reverted.name} was trained from {origin}, not from {name}",)
    )
    return CommandOutput((f"{reverted.name} reverted; {name} is in use from now on",), notes)
