"""Create engines by name, and validate the predictions of third-party ones."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lesionlens.base import plugins
from lesionlens.base.errors import PluginError, UnusableInputError, WeightsError
from lesionlens.base.geometry import Floats, Shape3, is_inside
from lesionlens.base.labels import Region
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.prediction import (
    FirstPass,
    InputPerturbation,
    PerturbedPrediction,
    Prediction,
)
from lesionlens.base.records.prompts import PromptRequest, PromptResponse
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.engines.engine import (
    Engine,
    SupportsFirstPass,
    SupportsForgetting,
    SupportsPerturbation,
    SupportsPrompts,
    Target,
)
from lesionlens.engines.exclusive_use import exclusive_use
from lesionlens.engines.prompting.rules import outside_brain
from lesionlens.engines.validation import (
    check_weights,
    defects,
    engine_errors,
    validated,
    validated_attribution,
    validated_first_pass,
    validated_perturbed,
    validated_response,
    without_invisible_regions,
)

logger = logging.getLogger(__name__)


def make_engine(name: str, **options: Any) -> Engine:
    """Create an installed engine.

    Parameters
    ----------
    name : str
        Name of its entry point in the group `lesionlens.engines`.
    **options
        Keyword arguments: `device` and other options of the user.

    Raises
    ------
    MissingPluginError
        No engine has this name.
    PluginError
        A third-party engine fails.
    """
    engine: Engine = plugins.make(plugins.ENGINES, name, **options)
    return engine


def first_pass(
    engine: SupportsFirstPass, prepared: PreparedStudy, *, context: RunContext
) -> FirstPass:
    """Return an engine's first pass, validated; see `engines.engine.SupportsFirstPass`.

    Raises
    ------
    PluginError
        A third-party engine fails, changes the images, or returns no probabilities of one input.
    """
    if plugins.is_builtin(engine):
        return engine.first_pass(prepared, context=context)
    with engine_errors(engine, prepared, "in its first pass"):
        result = engine.first_pass(prepared, context=context)
    return validated_first_pass(engine, result)


def predict_perturbed(
    engine: SupportsPerturbation,
    prepared: PreparedStudy,
    perturbations: Sequence[InputPerturbation],
    *,
    context: RunContext,
) -> PerturbedPrediction:
    """Return predictions of perturbed inputs; see `engines.engine.SupportsPerturbation`.

    Raises
    ------
    PluginError
        A third-party engine fails, changes the images, or returns no probabilities of these inputs.
    """
    with engine_errors(engine, prepared, "when it predicted perturbed inputs"):
        predictions = engine.predict_perturbed(prepared, perturbations, context=context)
    return validated_perturbed(engine, predictions, len(perturbations))


def attribute(engine: Engine, prepared: PreparedStudy, target: Target, method: str) -> Volume:
    """Return an engine's attribution; see `engines.engine.Engine.attribute`.

    Raises
    ------
    UnusableInputError
        The engine has no such method.
    PluginError
        A third-party engine fails, changes the images, or returns anything but finite, non-negative
        weights on the working grid.
    """
    with (
        exclusive_use(engine, SILENT),
        engine_errors(engine, prepared, f"in its attribution by {method}"),
    ):
        attribution = engine.attribute(prepared, target, method)
    return validated_attribution(engine, attribution, prepared.working.shape)


def traced_weights(
    trace_function: Callable[..., Floats], prepared: PreparedStudy, *arguments: Any
) -> Floats:
    """Return weights on the working grid from a function of a `Trace`.

    Raises
    ------
    PluginError
        A third-party function fails, or returns anything but finite, non-negative weights.
    """
    with plugins.plugin_errors(trace_function, "engine's trace", "when it was asked for attention"):
        weights = trace_function(*arguments)
    check_weights(trace_function, weights, prepared.working.shape, "attention")
    return weights


def release(engine: object) -> None:
    """Release what an engine cached of the last study, if it can; a failure is only logged."""
    if not isinstance(engine, SupportsForgetting):
        return
    try:
        with plugins.plugin_errors(
            engine, f"engine {type(engine).__name__!r}", "when it released a study"
        ):
            engine.forget()
    except PluginError as error:
        logger.warning("Memory may not be released: %s", error.brief)


def answer_prompts(
    engine: SupportsPrompts,
    prepared: PreparedStudy,
    request: PromptRequest,
    probability: Mapping[Region, Floats] | None,
    *,
    context: RunContext,
) -> PromptResponse:
    """Return an engine's response to prompts; see `engines.engine.SupportsPrompts`.

    Raises
    ------
    UnusableInputError
        The requested region is not visible in the study's sequences, or, for a third-party engine,
        a prompt is outside the working grid; or raised by the engine.
    PluginError
        A third-party engine fails, changes the images, or returns arrays that do not fit its box or
        the grid.
    """
    if request.region is not None and request.region not in prepared.regions:
        raise UnusableInputError(
            found=f"a prompt for the {request.region.display_name} of a study without T1c",
            expected="a region that its sequences can show",
            next_step="Choose the whole tumour or its core, or no region",
        )
    if plugins.is_builtin(engine):
        return engine.answer_prompts(prepared, request, probability, context=context)
    request = _restricted_to_grid(request, prepared.working.shape)
    with (
        exclusive_use(engine, context),
        engine_errors(engine, prepared, "when it answered prompts"),
    ):
        response = engine.answer_prompts(prepared, request, probability, context=context)
    return validated_response(engine, response, prepared.working.shape)


def _restricted_to_grid(request: PromptRequest, shape: Shape3) -> PromptRequest:
    """Return a request whose voxels are all of the grid, as an engine may use them as indices.

    The frame of a box may lie beyond it; -1 would be the opposite face.
    """
    inside = is_inside(request.background, shape)
    has_outside = not is_inside(request.foreground, shape).all()
    if has_outside or (len(inside) and not inside.any() and not len(request.foreground)):
        raise outside_brain()
    return replace(request, background=request.background[inside])


def predict(engine: Engine, prepared: PreparedStudy, *, context: RunContext) -> Prediction:
    """Return an engine's prediction, validated, as weights of any origin may yield NaN.

    Voxels that a third-party engine segments outside the brain are removed, with a notice. Without
    T1c, enhancing tumour is removed from probability and attention of any engine.

    Raises
    ------
    WeightsError
        A built-in engine's network returns values that are not probabilities.
    PluginError
        A third-party engine fails, changes the images, or returns another grid, values that are
        not probabilities, or regions that are not nested.
    """
    if plugins.is_builtin(engine):
        prediction = engine.predict(prepared, context=context)
        info = prediction.engine
        for defect, expected in defects(prediction, prepared):
            raise WeightsError(
                found=f"{defect} from the network of {info.name} {info.version}",
                expected=expected,
                next_step="Use other weights, or --precision float32",
                in_window="Use other weights, or float32",
            )
        return without_invisible_regions(prediction, prepared)
    with engine_errors(engine, prepared, "when it predicted"):
        prediction = engine.predict(prepared, context=context)
    return without_invisible_regions(validated(engine, prediction, prepared), prepared)
