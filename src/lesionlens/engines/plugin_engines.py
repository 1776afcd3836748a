"""Create engines by name, call them, and refuse invalid output of third-party ones."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np

from lesionlens.base import plugins
from lesionlens.base.errors import PluginError, UnusableInputError, WeightsError
from lesionlens.base.geometry import Floats, Shape3, is_inside
from lesionlens.base.labels import Region, without_enhancing
from lesionlens.base.record_validation import validated_record
from lesionlens.base.records.arrays import checksums
from lesionlens.base.records.prediction import (
    Capability,
    EngineInfo,
    FirstPass,
    InputPerturbation,
    PerturbedPrediction,
    Prediction,
)
from lesionlens.base.records.prompts import PromptRequest, PromptResponse
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import RunContext
from lesionlens.base.text import is_writable, millilitres
from lesionlens.engines.defects import (
    Defect,
    defects_of,
    defects_of_first_pass,
    defects_of_perturbed,
    defects_of_response,
    defects_of_weights,
)
from lesionlens.engines.engine import (
    Engine,
    SupportsFirstPass,
    SupportsForgetting,
    SupportsPerturbation,
    SupportsPrompts,
)
from lesionlens.engines.exclusive_use import exclusive_use
from lesionlens.engines.prompting.rules import outside_brain

logger = logging.getLogger(__name__)
_CAVITY_THRESHOLD = 0.5
_T = TypeVar("_T")


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
    with engine_errors(engine, prepared, "in its first pass"):
        result = engine.first_pass(prepared, context=context)
    return _validated(engine, result, FirstPass, "a first pass", defects_of_first_pass)


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
    find_defects = partial(defects_of_perturbed, count=len(perturbations))
    return _validated(engine, predictions, PerturbedPrediction, "perturbed inputs", find_defects)


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
    if not plugins.is_builtin(trace_function):
        _refuse(trace_function, defects_of_weights(weights, prepared.working.shape))
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
    find_defects = partial(defects_of_response, shape=prepared.working.shape)
    checked = _validated(engine, response, PromptResponse, "prompts", find_defects)
    return replace(checked, made_by=checked.made_by or _identity_text(engine))


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
    with engine_errors(engine, prepared, "when it predicted"):
        prediction = engine.predict(prepared, context=context)
    if not plugins.is_builtin(engine):
        checked = _limited_to_brain(validated(engine, prediction, prepared), prepared)
        return _without_invisible_regions(checked, prepared)
    info = prediction.engine
    for defect, expected in defects_of(prediction, prepared):
        raise WeightsError(
            found=f"{defect} from the network of {info.name} {info.version}",
            expected=expected,
            next_step="Use other weights",
        )
    return _without_invisible_regions(prediction, prepared)


def validated(engine: Engine, prediction: Any, prepared: PreparedStudy) -> Prediction:
    """Return an engine's prediction, its probabilities in float32.

    Raises
    ------
    PluginError
        It is not a `Prediction`, is on another grid, or has values that are not probabilities,
        regions that are not nested, or invalid thresholds, notices or identity.
    """
    _check_type(engine, prediction, Prediction, "a prediction")
    _refuse(engine, _identity_defects(prediction.engine, engine))
    checked = validated_record(prediction, Prediction, _engine_label(engine))
    if set(checked.probability) != set(Region):
        regions = ", ".join(checked.probability) or "none"
        _refuse(engine, [(f"the regions {regions}", ", ".join(Region))])
    _refuse(engine, defects_of(checked, prepared))
    probability = {r: checked.probability[r].astype(np.float32, copy=False) for r in Region}
    return replace(checked, probability=probability)


def _identity_defects(info: Any, engine: Engine) -> Iterator[Defect]:
    if not _is_engine_info(info):
        requirement = "its EngineInfo, with name and version as text and a set of capabilities"
        yield "a prediction that names no engine", requirement
        return
    engine_name = getattr(getattr(engine, "info", None), "name", None)
    if info.name != engine_name:
        expected_name = f"its own, {engine_name!r:.100}: results name the engine that made them"
        yield f"a prediction by the name of {info.name!r:.100}", expected_name


def _is_engine_info(info: Any) -> bool:
    if not isinstance(info, EngineInfo) or not plugins.are_texts((info.name, info.version)):
        return False
    if not info.name or not all(map(is_writable, (info.name, info.version))):
        return False
    capabilities: Any = info.capabilities
    return isinstance(capabilities, frozenset | set) and capabilities <= set(Capability)


def _identity_text(engine: object) -> str:
    """Return an engine's name, version and weights; empty if it does not identify itself."""
    info: Any = getattr(engine, "info", None)
    if not _is_engine_info(info):
        return ""
    weights = f", weights {info.weights_sha256[:8]}" if info.weights_sha256 else ""
    return f"{info.name} {info.version}{weights}"


def _without_invisible_regions(prediction: Prediction, prepared: PreparedStudy) -> Prediction:
    """Remove enhancing tumour if T1c, the only sequence that shows it, is missing."""
    if prepared.has_t1c:
        return prediction
    trace = prediction.trace
    if trace is not None:
        trace = replace(trace, cross=without_enhancing(trace.cross))
    return replace(prediction, probability=without_enhancing(prediction.probability), trace=trace)


def _limited_to_brain(prediction: Prediction, prepared: PreparedStudy) -> Prediction:
    """Remove voxels outside the brain, with a notice about their volume."""
    outlined, cavity = prediction.probability[Region.WT] >= prediction.thresholds[Region.WT], None
    if prediction.cavity is not None:
        outlined = outlined | (prediction.cavity >= _CAVITY_THRESHOLD)
        cavity = prediction.cavity * prepared.brain
    outside_ml = prepared.working.volume_ml(outlined & ~prepared.brain)
    notice = (
        f"{millilitres(outside_ml)} ml that the engine outlined outside the brain were omitted."
    )
    return replace(
        prediction,
        probability={region: p * prepared.brain for region, p in prediction.probability.items()},
        cavity=cavity,
        notices=(*prediction.notices, notice) if outside_ml else prediction.notices,
    )


@contextmanager
def engine_errors(engine: object, prepared: PreparedStudy, when: str) -> Iterator[None]:
    """Name the package of a third-party engine that fails or changes the images.

    Torch writes to read-only arrays too. `when` is a phrase, as for `plugins.plugin_errors`.

    Raises
    ------
    PluginError
        It failed, or changed images or their positions in the patient.
    """
    label = f"engine {type(engine).__name__!r}"
    checksum = None if plugins.is_builtin(engine) else _checksum(prepared)
    with plugins.plugin_errors(engine, label, when):
        yield
    if checksum is not None and _checksum(prepared) != checksum:
        raise PluginError(
            who=plugins.name_of(engine, label),
            why="changed the images that it was given",
            expected="an engine that changes a copy, such as torch.tensor(prepared.channels)",
        )


def _validated(
    engine: object,
    output: _T,
    record: type[_T],
    subject: str,
    find_defects: Callable[[_T], Iterable[Defect]],
) -> _T:
    """Return an engine's output; built-in engines are covered by tests and not validated here."""
    if plugins.is_builtin(engine):
        return output
    _check_type(engine, output, record, subject)
    checked = validated_record(output, record, _engine_label(engine))
    _refuse(engine, find_defects(checked))
    return checked


def _checksum(prepared: PreparedStudy) -> tuple[int, ...]:
    """Return checksums of the images, the brain and their positions in the patient."""
    images = (prepared.channels, prepared.present, prepared.brain)
    positions = (prepared.working.affine, prepared.native.affine, prepared.to_native)
    return checksums((*images, *positions))


def _check_type(engine: object, value: Any, record: type, subject: str) -> None:
    if not isinstance(value, record):
        requirement = f"a {record.__module__}.{record.__name__}"
        _refuse(engine, [(f"{type(value).__name__} for {subject}", requirement)])


def _refuse(plugin: object, defects: Iterable[Defect]) -> None:
    """Raise a PluginError for the first defect, if there is any."""
    for defect, expected in defects:
        raise PluginError(who=_engine_label(plugin), why=f"gave {defect}", expected=expected)


def _engine_label(engine: object) -> str:
    type_name = getattr(engine, "__qualname__", type(engine).__name__)
    return plugins.name_of(engine, f"engine {type_name!r}")
