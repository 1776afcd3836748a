"""`lesionlens train`: train weights from a recipe; can be stopped and resumed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lesionlens.base.files.safe_paths import check_outside
from lesionlens.cli import checks, options
from lesionlens.cli.console import STOP, CommandOutput, plain, progress_bar
from lesionlens.cli.engine_options import DEFAULT_ENGINE, Compute

if TYPE_CHECKING:
    from lesionlens.base.run_context import RunContext
    from lesionlens.training.config import TrainConfig
    from lesionlens.training.loop import TrainEvent, TrainSummary
    from lesionlens.training.real_cases import RealCases


def train(
    config: Annotated[
        Path,
        typer.Argument(
            help="Recipe: a TOML file, or a built-in one: default, continued, finetune, mixed.",
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
    finetune: Annotated[
        Path | None,
        typer.Option(
            help="Train on real cases: BraTS or Decathlon layout, or reviewed results.",
            metavar="DIR",
        ),
    ] = None,
    studies: Annotated[
        Path | None,
        typer.Option(help="The studies of reviewed results, as for `batch`.", metavar="DIR"),
    ] = None,
    convention: options.Convention = None,
) -> CommandOutput:
    """Train the network on synthetic brains by a recipe; resumes from a checkpoint in DIR.

    No patient's scan is needed. With --finetune the default weights are trained on your own
    cases; patients are split once, and held-out patients are used for validation only. Ctrl-C
    saves a checkpoint; the same command continues. On several GPUs: torchrun --nproc-per-node 4
    --no-python lesionlens train CONFIG --out DIR --device cuda.
    """
    checks.check_used("--finetune", finetune, {"--studies": studies, "--convention": convention})
    for folder in (finetune, studies):
        if folder is not None:
            check_outside(folder, out)
    STOP.record_only()
    with progress_bar() as context:
        context.progress("loading", 0.0)
        from lesionlens.engines.threads import use_threads
        from lesionlens.training.config import read_config
        from lesionlens.training.distributed import process_group
        from lesionlens.training.loop import TrainOptions
        from lesionlens.training.loop import train as run

        def report(event: TrainEvent) -> None:
            context.progress(f"step {event.step}, loss {event.loss:.3f}", event.step / event.steps)

        recipe, cases = read_config(config), None
        use_threads(engine_choice.threads)
        with process_group(engine_choice.device) as processes:
            if finetune is not None:
                with processes.leader_first():
                    recipe, cases = _real_cases(recipe, out, finetune, studies, convention, context)
            summary = run(
                recipe,
                out,
                TrainOptions(minutes, not fresh, processes, cases, engine_choice.precision),
                on_step=report,
                context=context,
            )
    return _output(summary, is_leader=processes.is_leader)


def _real_cases(
    recipe: TrainConfig,
    out: Path,
    folder: Path,
    studies: Path | None,
    convention: str | None,
    context: RunContext,
) -> tuple[TrainConfig, RealCases]:
    """Find the training cases; the recipe then starts from existing weights."""
    from lesionlens.analysis.evaluation.label_conventions import read_conventions
    from lesionlens.training.initial_network import initial_network
    from lesionlens.training.real_cases import RealCases, config_for_cases
    from lesionlens.training.references import find_real_cases

    initial_network(
        config_for_cases(recipe, ())
    )  # weights that do not fit are refused before any reading
    conventions = read_conventions(convention, folder)
    cases = find_real_cases(folder, studies=studies, convention=conventions.of)
    conventions.check(case.name for case in cases)
    return config_for_cases(recipe, cases), RealCases(cases, out, recipe, context)


def _output(summary: TrainSummary, *, is_leader: bool = True) -> CommandOutput:
    if not is_leader:
        return CommandOutput(status=130 if STOP.is_set() else 0)
    progress_text = f"{summary.step} of {summary.steps} steps in {summary.minutes:.1f} minutes"
    if summary.resumed_at:
        progress_text += f" (resumed from step {summary.resumed_at})"
    if not math.isnan(summary.loss):  # else no step was done yet
        progress_text += f", loss {summary.loss:.3f}"
    lines = (progress_text, f"Weights: {summary.weights}")
    notes: tuple[str, ...] = ()
    if summary.trained_before:
        notes = (
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
