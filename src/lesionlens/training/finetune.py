"""Fine-tune weights on a site's own cases: a data set with references, or signed results."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from lesionlens.analysis.evaluation.label_conventions import read_conventions
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.network.weights import weights_path
from lesionlens.training.config import TrainConfig, read_config
from lesionlens.training.initial_network import initial_network
from lesionlens.training.loop import OnStep, TrainOptions, TrainSummary, train
from lesionlens.training.real_cases import RealCases, config_for_cases
from lesionlens.training.references import find_real_cases

RECIPE = "finetune"
_MIN_STEPS_FOR_PATCHES = 20


@dataclass(frozen=True, slots=True)
class FinetuneJob:
    """What to train on, and how.

    Parameters
    ----------
    cases : Path
        A data set with references, or results with signed reviews.
    out : Path
        The run's folder; it will hold patients' images.
    studies : Path or None
        The studies of results, as `batch` was given them.
    recipe : Path or None
        A recipe; None for the built-in one.
    steps : int or None
        Steps of the last stage; None as in the recipe.
    weights : str or None
        Initial weights, as for `network.weights.weights_path`.
    convention : str or None
        Name or table of the label conventions, as for `evaluate`.
    """

    cases: Path
    out: Path
    studies: Path | None = None
    recipe: Path | None = None
    steps: int | None = None
    weights: str | None = None
    convention: str | None = None


@dataclass(frozen=True, slots=True)
class FinetuneOutcome:
    """The outcome of one session."""

    trained: TrainSummary
    left_out: tuple[tuple[str, str], ...]
    """Name of each result that is not trained on, and why."""


def finetune(
    job: FinetuneJob,
    *,
    minutes: float | None = None,
    device: torch.device,
    on_step: OnStep | None = None,
    context: RunContext = SILENT,
) -> FinetuneOutcome:
    """Train further on real cases; the same call resumes an interrupted run.

    Raises
    ------
    UnusableInputError, ConfigError, WeightsError
        A case, the recipe or the initial weights cannot be used.
    """
    recipe = _recipe(job)
    initial_network(config_for_cases(recipe, ()))  # refused before any case is read
    conventions = read_conventions(job.convention, job.cases)
    found = find_real_cases(job.cases, studies=job.studies, convention=conventions.of)
    conventions.check(case.name for case in found.cases)
    recipe = config_for_cases(recipe, found.cases)
    cases = RealCases(found.cases, job.out, recipe, context)
    options = TrainOptions(minutes, device=device, cases=cases)
    trained = train(recipe, job.out, options, on_step=on_step, context=context)
    return FinetuneOutcome(trained, found.left_out)


def _recipe(job: FinetuneJob) -> TrainConfig:
    """Return the recipe; for few steps no more brains are generated than they can use."""
    recipe = read_config(job.recipe or RECIPE)
    if job.weights is not None or recipe.init is None:
        recipe = replace(recipe, init=str(weights_path(job.weights)))
    if job.steps is None:
        return recipe
    data, last = recipe.data, recipe.stages[-1]
    patches = last.patches if job.steps >= _MIN_STEPS_FOR_PATCHES else None
    last = replace(last, steps=job.steps, patches=patches)
    usable = max(2, math.ceil(job.steps * data.drawn_share / data.paintings))
    return replace(
        recipe,
        stages=(*recipe.stages[:-1], last),
        data=replace(data, drawn_kept=min(data.drawn_kept, usable)),
    )
