"""`lesionlens train`: train weights from a recipe; can be stopped and resumed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lesionlens.cli.console import STOP, CommandOutput, plain, progress_bar
from lesionlens.cli.engine_options import DEFAULT_ENGINE, Compute

if TYPE_CHECKING:
    from lesionlens.training.loop import TrainEvent, TrainSummary


def train(
    config: Annotated[
        Path,
        typer.Argument(
            help="Recipe: a TOML file, or a built-in one: default, continued.",
            metavar="CONFIG",
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="Folder for checkpoints, logs and weights.", metavar="DIR")
    ],
    engine_choice: Compute = DEFAULT_ENGINE,
    minutes: Annotated[
        float | None,
        typer.Option(help="Stop after this time; run again to continue.", metavar="MIN", min=0),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start from scratch instead of from a checkpoint.")
    ] = False,
) -> CommandOutput:
    """Train the network on synthetic brains by a recipe; resumes from a checkpoint in DIR.

    No patient's scan is needed; `finetune` trains on your own cases. Ctrl-C saves a checkpoint;
    the same command continues.
    """
    STOP.record_only()
    with progress_bar() as context:
        context.progress("loading", 0.0)
        from lesionlens.engines.device import choose
        from lesionlens.engines.threads import use_threads
        from lesionlens.training.config import read_config
        from lesionlens.training.loop import TrainOptions
        from lesionlens.training.loop import train as run

        def report(event: TrainEvent) -> None:
            context.progress(f"step {event.step}, loss {event.loss:.3f}", event.step / event.steps)

        recipe = read_config(config)
        use_threads(engine_choice.threads)
        options = TrainOptions(minutes, not fresh, choose(engine_choice.device))
        summary = run(recipe, out, options, on_step=report, context=context)
    return output_of(summary)


def output_of(summary: TrainSummary, *notes: str) -> CommandOutput:
    """Return the output of one session of training."""
    progress_text = f"{summary.step} of {summary.steps} steps in {summary.minutes:.1f} minutes"
    if summary.resumed_at:
        progress_text += f" (resumed from step {summary.resumed_at})"
    if not math.isnan(summary.loss):  # else no step was done yet
        progress_text += f", loss {summary.loss:.3f}"
    lines = (progress_text, f"Weights: {summary.weights}")
    if summary.trained_before:
        notes += (
            "The initial weights were trained on cases that are held out for validation, whose "
            f"figures are therefore too good: {', '.join(map(plain, summary.trained_before))}",
        )
    if summary.differing:
        notes += (
            "Cases were added, changed or removed after the weights were trained; another --out "
            f"trains on them as they are now: {', '.join(map(plain, summary.differing))}",
        )
    if STOP.is_set():
        return CommandOutput(lines, (*notes, "stopped; the same command continues"), status=130)
    return CommandOutput(lines, notes)
