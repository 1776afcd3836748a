"""`lesionlens finetune`: train the network further on a site's own cases."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from lesionlens.base.files import check_outside
from lesionlens.cli import options
from lesionlens.cli.console import STOP, CommandOutput, plain, progress_bar
from lesionlens.cli.engine_options import DEFAULT_ENGINE, Compute


def finetune(
    cases: Annotated[
        Path,
        typer.Argument(
            help="Cases with references (BraTS, Decathlon or nnU-Net layout), or results with "
            "signed reviews.",
            metavar="CASES",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(help="Folder for weights; it will hold patients' images.", metavar="DIR"),
    ],
    studies: Annotated[
        Path | None,
        typer.Option(help="The studies of reviewed results, as for `batch`.", metavar="DIR"),
    ] = None,
    weights: options.Weights = None,
    steps: Annotated[int, typer.Option(help="Training steps.", metavar="N", min=1)] = 260,
    minutes: Annotated[
        float | None,
        typer.Option(help="Stop after this time; run again to continue.", metavar="N", min=0),
    ] = None,
    convention: options.Convention = None,
    engine_choice: Compute = DEFAULT_ENGINE,
) -> CommandOutput:
    """Train the network further on your own cases, or on results that a reader has signed.

    Patients are split once; one in four is held out, and DIR/held_out.html shows them before and
    after. Ctrl-C saves a checkpoint; the same command continues. Use the new weights with
    --weights DIR/weights.safetensors.
    """
    for folder in (cases, studies):
        if folder is not None:
            check_outside(folder, out)
    STOP.record_only()
    with progress_bar() as context:
        context.progress("loading", 0.0)
        from lesionlens.engines.device import choose
        from lesionlens.engines.engine import use_threads
        from lesionlens.training.finetune import FinetuneJob
        from lesionlens.training.finetune import finetune as run

        job = FinetuneJob(cases, out, studies, steps, weights, convention)
        use_threads(engine_choice.threads)
        device = choose(engine_choice.device)
        done = run(job, minutes=minutes, device=device, context=context)
    line = f"{done.step} of {steps} steps in {done.minutes:.1f} minutes"
    line += f" (resumed from step {done.resumed_at})" if done.resumed_at else ""
    line += "" if math.isnan(done.loss) else f", loss {done.loss:.3f}"
    lines = [line]
    if done.held_out is not None:
        lines.append(f"Mean Dice of {len(done.held_out)} held-out cases:")
        means = done.held_out.mean()
        for column in means.index[means.index.str.endswith("after")]:
            name = column.removesuffix(" after")
            before = means.get(f"{name} before", math.nan)
            lines.append(f"  {name:<7} {before:.3f} before, {means[column]:.3f} after")
    notes = [f"{plain(name)} is not trained on: {why}" for name, why in done.left_out]
    if done.trained_before:
        notes.append(
            "The initial weights were trained on held-out cases, whose figures are too good: "
            + ", ".join(map(plain, done.trained_before))
        )
    lines.append(f"Weights: {done.weights}")
    if STOP.is_set():
        return CommandOutput(
            tuple(lines), (*notes, "stopped; the same command continues"), status=130
        )
    return CommandOutput(tuple(lines), tuple(notes))
