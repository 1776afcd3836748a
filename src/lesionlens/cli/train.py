"""`lesionlens train`: make weights from a recipe; stops and resumes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lesionlens.cli import options
from lesionlens.cli.console import STOP, Answer, progress_bar

if TYPE_CHECKING:
    from lesionlens.training.loop import TrainEvent, TrainSummary


def train(
    config: Annotated[Path, typer.Argument(help="Recipe, a TOML file.", metavar="CONFIG")],
    out: Annotated[
        Path,
        typer.Option("--out", help="Folder for checkpoints, logs and weights.", metavar="DIR"),
    ],
    device: Annotated[
        str, typer.Option("--device", help="cpu, cuda or cuda:N.", metavar="DEVICE")
    ] = "cpu",
    minutes: Annotated[
        float | None,
        typer.Option("--minutes", help="Stop after this long; start again to go on.", min=0),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew instead of going on from a checkpoint.")
    ] = False,
    debug: options.Debug = False,
) -> Answer:
    """Train the network on synthetic brains, as a recipe says; goes on where DIR left off.

    No patient's scan is needed. Ctrl-C saves a checkpoint; the same command goes on from there.
    """
    del debug
    STOP.gently()
    with progress_bar() as progress:
        progress("loading", 0.0)
        from lesionlens.training.config import read_config
        from lesionlens.training.loop import train as run

        def tell(event: TrainEvent) -> None:
            progress(f"step {event.step}, loss {event.loss:.3f}", event.step / event.steps)

        summary = run(
            read_config(config),
            out,
            minutes=minutes,
            device=device,
            resume=not fresh,
            progress=tell,
            cancel=STOP,
        )
    return _answer(summary)


def _answer(summary: TrainSummary) -> Answer:
    done = f"{summary.step} of {summary.steps} steps in {summary.minutes:.1f} minutes"
    lines = (f"{done}, loss {summary.loss:.3f}", f"Weights: {summary.weights}")
    if STOP.is_set():
        return Answer(lines, ("stopped; the same command goes on from here",), status=130)
    return Answer(lines)
