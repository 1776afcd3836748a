"""`lesionlens finetune`: train the network further on a site's own cases."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lesionlens.base.files import check_outside
from lesionlens.cli import options
from lesionlens.cli.console import STOP, CommandOutput, plain, progress_bar
from lesionlens.cli.engine_options import DEFAULT_ENGINE, Compute
from lesionlens.cli.train import output_of

if TYPE_CHECKING:
    from lesionlens.training.loop import TrainEvent


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
    steps: Annotated[
        int | None, typer.Option(help="Training steps; default: 260.", metavar="N", min=1)
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(help="Stop after this time; run again to continue.", metavar="MIN", min=0),
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="Your own recipe (TOML).", metavar="FILE")
    ] = None,
    convention: options.Convention = None,
    engine_choice: Compute = DEFAULT_ENGINE,
) -> CommandOutput:
    """Train the network further on your own cases, or on results that a reader has signed.

    Patients are split once; those held out are used for validation only. Synthetic brains are
    mixed in. Ctrl-C saves a checkpoint; the same command continues. Use the new weights with
    --weights DIR/weights.safetensors, and compare them by `evaluate`.
    """
    for folder in (cases, studies):
        if folder is not None:
            check_outside(folder, out)
    STOP.record_only()
    with progress_bar() as context:
        context.progress("loading", 0.0)
        from lesionlens.engines.device import choose
        from lesionlens.engines.threads import use_threads
        from lesionlens.training.finetune import FinetuneJob
        from lesionlens.training.finetune import finetune as run

        def report(event: TrainEvent) -> None:
            context.progress(f"step {event.step}, loss {event.loss:.3f}", event.step / event.steps)

        job = FinetuneJob(cases, out, studies, recipe, steps, weights, convention)
        use_threads(engine_choice.threads)
        device = choose(engine_choice.device)
        outcome = run(job, minutes=minutes, device=device, on_step=report, context=context)
    notes = (f"{plain(name)} is not trained on: {why}" for name, why in outcome.left_out)
    return output_of(outcome.trained, *notes)
