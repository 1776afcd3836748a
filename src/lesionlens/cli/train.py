"""`lesionlens train`: make weights from a recipe; stops and resumes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lesionlens.cli.console import DEBUG, DEVICE, STOP, Answer, progress_bar


def train(
    config: Annotated[Path, typer.Argument(help="Recipe, a TOML file.", metavar="CONFIG")],
    out: Annotated[
        Path,
        typer.Option("--out", help="Folder for checkpoints, logs and weights.", metavar="DIR"),
    ],
    device: Annotated[str, DEVICE] = "auto",
    debug: Annotated[bool, DEBUG] = False,
) -> Answer:
    """Train the network on synthetic brains, as a recipe says; continues where DIR left off.

    No patient's scan is needed. Ctrl-C saves a checkpoint; the same command goes on from there.
    """
    del debug
    STOP.gently()
    with progress_bar() as progress:
        progress("loading", 0.0)
        from lesionlens.training.config import read_config
        from lesionlens.training.loop import train as run

        weights = run(read_config(config), out, device=device, progress=progress, cancel=STOP)
    return Answer((f"Weights: {weights}",))
