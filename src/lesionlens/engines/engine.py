"""Engines: their protocol, how one is loaded, and the check of what a plug-in's returns.

Any object with `info` and `predict` is an engine; `EngineChoice` loads one by name, bundle or
weights. The rest of the program calls it through `predict`, `predict_subsets`, `prompt` and `probe`
of this module, which name the package of a plug-in that fails or returns nonsense.
"""

from __future__ import annotations

import math
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn, Protocol

import numpy as np

from lesionlens.base import plugins
from lesionlens.base.errors import PluginError, UnusableInputError, WeightsError
from lesionlens.base.geometry import Floats, Shape3, is_inside
from lesionlens.base.labels import LesionClass, Region, without_enhancing
from lesionlens.base.records.prediction import (
    EngineInfo,
    InputPerturbation,
    PerturbedPrediction,
    Prediction,
    Trace,
)
from lesionlens.base.records.prompts import PromptRequest, PromptResponse
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import RunContext
from lesionlens.base.text import millilitres

BUNDLE_ENGINE = "monai-bundle"
_TOLERANCE = 1e-3
"""Of probabilities beyond 0 to 1, or above those of the enclosing region: rounding."""


class Engine(Protocol):
    """A network, or any other method, that predicts tumour regions of a prepared study.

    An engine may also have these methods; what it lacks stays empty in the result, with a notice.

    `predict_subsets(prepared, inputs, *, context) -> PerturbedPrediction`
        Quick predictions from subsets of the sequences, one for each `InputPerturbation`: fitted
        scores, `dice_without`, Shapley values and uncertainty. `Prediction.unperturbed` is then the
        same quick prediction from all sequences.
    `prompt(prepared, request, probability, *, context) -> PromptResponse`
        Segment from a reader's prompts, or correct an outline, in voxels of the working grid.
        `probability` maps each region to what was predicted, or is None. Prompts that contradict
        each other raise UnusableInputError.
    `forget()`
        Release what is kept of the last study.
    """

    @property
    def info(self) -> EngineInfo:
        """Name, version, weights, device."""

    def predict(self, prepared: PreparedStudy, *, context: RunContext) -> Prediction:
        """Predict on the working grid.

        Parameters
        ----------
        prepared : PreparedStudy
            Channels (4, I, J, K) in scanner units, RAS+, 1 mm; normalising, and copying what is
            changed, is up to the engine.
        context : RunContext
            For progress and cancellation between all longer steps.

        Raises
        ------
        CancelledError
            The user asked to stop.
        ResourceError
            The device or the memory is insufficient.
        """


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """An engine that is not loaded yet; the default is the shipped network on the best device."""

    device: str = "auto"
    """auto, cpu, cuda, cuda:N, xpu, xpu:N or mps."""
    engine: str = "lens"
    """Name of an installed engine."""
    weights: str | None = None
    """A file, "default" or "synthetic"; None for the default."""
    bundle: Path | None = None
    """Folder of a MONAI bundle, used instead of the built-in network."""
    threads: int | None = None
    """CPU threads; None for each library's default."""

    def __post_init__(self) -> None:
        if self.bundle is not None and self.weights is not None:
            raise UnusableInputError(
                "Weights were named beside a bundle, which has its own.", hint="Leave one out."
            )
        if self.bundle is not None and self.engine not in ("lens", BUNDLE_ENGINE):
            raise UnusableInputError(
                f"The engine {self.engine!r} was named beside a bundle.", hint="Leave one out."
            )

    def load(self) -> Engine:
        """Load the network; UnusableInputError if there is no such engine, device or file."""
        name = self.engine if self.bundle is None else BUNDLE_ENGINE
        installed = plugins.names(plugins.ENGINES)
        if name not in installed:
            raise UnusableInputError(
                f"There is no engine {name!r}.", hint=f"Choose one of {', '.join(installed)}."
            )
        if self.bundle is None and name == BUNDLE_ENGINE:
            raise UnusableInputError("No bundle was named.", hint="Add --bundle FOLDER.")
        use_threads(self.threads)
        options: dict[str, Any] = {"weights": self.weights, "bundle": self.bundle}
        named = {key: value for key, value in options.items() if value is not None}
        engine: Engine = plugins.make(plugins.ENGINES, name, device=self.device, **named)
        return engine

    def start_loading(self) -> Future[Engine]:
        """Load in another thread: importing torch takes as long as reading a study."""
        use_threads(self.threads)  # also for what runs until it is loaded
        pool = ThreadPoolExecutor(1, "engine")
        loading = pool.submit(self.load)
        pool.shutdown(wait=False)
        return loading


def use_threads(count: int | None) -> None:
    """Set the CPU threads of registration and of an engine loaded next; None for the default."""
    if count is None:
        return
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(count)
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(count)
    else:
        os.environ["OMP_NUM_THREADS"] = str(count)  # read when torch is imported


_turn = threading.RLock()


@contextmanager
def in_turn(context: RunContext) -> Iterator[None]:
    """Wait until no other thread of this process uses an engine: it keeps its last study."""
    while not _turn.acquire(timeout=0.1):
        context.check("waiting for another analysis")
    try:
        yield
    finally:
        _turn.release()


def predict(engine: Engine, prepared: PreparedStudy, *, context: RunContext) -> Prediction:
    """Return an engine's prediction, checked; without T1c nothing of it is enhancing.

    What a plug-in outlines outside the brain is left out, with a notice. PluginError, or
    WeightsError for a built-in network, if it is not of nested probabilities on the working grid.
    """
    with _asking(engine, "predicted", context):
        prediction = engine.predict(prepared, context=context)
        _check_prediction(engine, prediction, prepared)
        if not plugins.is_builtin(engine):
            prediction = _within_brain(prediction, prepared)
    if prepared.has_t1c:
        return prediction
    trace = prediction.trace
    if trace is not None:
        trace = replace(trace, cross=without_enhancing(trace.cross))
    return replace(prediction, probability=without_enhancing(prediction.probability), trace=trace)


def predict_subsets(
    engine: Any,
    prepared: PreparedStudy,
    inputs: Sequence[InputPerturbation],
    *,
    context: RunContext,
) -> PerturbedPrediction:
    """Return an engine's quick predictions from subsets of the sequences, checked; see `Engine`."""
    with _asking(engine, "predicted subsets", context):
        answer: PerturbedPrediction = engine.predict_subsets(prepared, inputs, context=context)
        _check_subsets(engine, answer, len(inputs))
    return answer


def prompt(
    engine: Any,
    prepared: PreparedStudy,
    request: PromptRequest,
    probability: Mapping[Region, Floats] | None,
    *,
    context: RunContext,
) -> PromptResponse:
    """Return an engine's response to prompts, checked; see `Engine`."""
    if request.region is not None and request.region not in prepared.regions:
        raise UnusableInputError(
            f"The {request.region.display_name} cannot be outlined without T1c.",
            hint="Choose the whole tumour or its core, or no region.",
        )
    response: PromptResponse
    if plugins.is_builtin(engine):
        response = engine.prompt(prepared, request, probability, context=context)
        return response
    shape = prepared.working.shape
    inside = is_inside(request.background, shape)  # the frame of a box may lie beyond the grid
    if not is_inside(request.foreground, shape).all() or (
        len(inside) and not inside.any() and not len(request.foreground)
    ):
        raise UnusableInputError("The prompt is outside the brain.", hint="Point inside the brain.")
    request = replace(request, background=request.background[inside])
    with _asking(engine, "answered prompts", context):
        response = engine.prompt(prepared, request, probability, context=context)
        _check_response(engine, response, shape)
        info = engine.info
        weights = f", weights {info.weights_sha256[:8]}" if info.weights_sha256 else ""
    return replace(response, made_by=response.made_by or f"{info.name} {info.version}{weights}")


def probe(trace: Trace, prepared: PreparedStudy, voxel: tuple[int, int, int]) -> Floats:
    """Return the (I, J, K) attention of a voxel of the working grid, checked."""
    row = trace.probe_row
    if row is None:
        raise UnusableInputError("This engine does not tell where a voxel attends.")
    with plugins.plugin_errors(row, "engine's trace", "when it was asked for attention"):
        weights = row(voxel)
        _check_map(row, "attention", weights, prepared.working.shape, math.inf)
    return weights


@contextmanager
def _asking(engine: object, did: str, context: RunContext) -> Iterator[None]:
    """Use an engine in turn; errors within the block name the package of a plug-in."""
    with in_turn(context), plugins.plugin_errors(engine, _label(engine), f"when it {did}"):
        yield


def _label(engine: object) -> str:
    info = getattr(engine, "info", None)
    return f"engine {getattr(info, 'name', type(engine).__name__)!r:.100}"


def _refuse(engine: object, why: str) -> NoReturn:
    """Raise the error for what an engine returned, such as "attention of the shape (2, 2, 2)"."""
    if plugins.is_builtin(engine):
        raise WeightsError(f"The {_label(engine)} returned {why}.", hint="Use other weights.")
    raise PluginError(who=plugins.name_of(engine, _label(engine)), why=f"returned {why}")


def _check_map(
    engine: object, name: str, values: Any, shape: tuple[int, ...], high: float = 1.0
) -> None:
    """Refuse anything but an array of floats of this shape from 0 to `high`, without NaN."""
    if not isinstance(values, np.ndarray) or isinstance(values, np.ma.MaskedArray):
        _refuse(engine, f"{name} as {type(values).__name__}, not as an array")
    if values.dtype.kind != "f":
        _refuse(engine, f"{name} as {values.dtype}, not as float32")
    if values.shape != shape:
        _refuse(engine, f"{name} of the shape {values.shape}, not {shape}")
    least, most = float(values.min()), float(values.max())
    tolerance = _TOLERANCE if high == 1 else 0.0
    if not (least >= -tolerance and most <= high + tolerance and most < math.inf):
        _refuse(engine, f"{name} from {least:g} to {most:g}, not from 0 to {high:g}")


def _check_prediction(engine: Engine, prediction: Prediction, prepared: PreparedStudy) -> None:
    """Check grid, type, range and nesting of everything that is measured or shown."""
    if not isinstance(prediction, Prediction):
        _refuse(engine, f"{type(prediction).__name__}, not a Prediction")
    if (prediction.engine.name, prediction.engine.version) != (
        engine.info.name,
        engine.info.version,
    ):
        _refuse(engine, f"a prediction of the engine {prediction.engine.name!r:.100}")
    shape = prepared.working.shape
    known = prepared.regions if plugins.is_builtin(engine) else tuple(Region)
    if not set(known) <= set(prediction.probability) <= set(Region):
        _refuse(engine, f"the regions {', '.join(prediction.probability)}, not {', '.join(known)}")
    outer: Floats | None = None
    for region in (region for region in Region if region in prediction.probability):
        values = prediction.probability[region]
        _check_map(engine, f"a probability of {region}", values, shape)
        if outer is not None and float((values - outer).max()) > _TOLERANCE:
            _refuse(engine, f"a probability of {region} above that of the region around it")
        if region in prediction.unsegmented and values.any():
            _refuse(engine, f"a probability of {region}, which it does not segment")
        outer = values
    if set(prediction.unsegmented) not in (set(), {Region.ET}, {Region.TC, Region.ET}):
        _refuse(engine, f"{', '.join(prediction.unsegmented)} as not segmented")
    if not all(0 < prediction.thresholds[region] <= 1 for region in Region):
        _refuse(engine, f"the thresholds {dict(prediction.thresholds)!r:.100}")
    scoring = prediction.scoring
    if not all(
        map(math.isfinite, (scoring.intercept, scoring.logit, scoring.log_ml, scoring.floor))
    ):
        _refuse(engine, f"the scoring {scoring!r:.100}")
    for name in ("uncertainty", "cavity"):
        if getattr(prediction, name) is not None:
            _check_map(engine, f"a map of {name}", getattr(prediction, name), shape)
    classes = prediction.class_probabilities
    if classes is not None:
        full = (len(LesionClass), *classes.grid.shape)
        _check_map(engine, "class probabilities", classes.share, full)
    for region, weights in (prediction.trace.cross if prediction.trace else {}).items():
        _check_map(engine, f"attention of {region}", weights, shape, math.inf)
    if prediction.unperturbed is not None:
        _check_subsets(engine, prediction.unperturbed, 1)


def _check_subsets(engine: object, predictions: PerturbedPrediction, count: int) -> None:
    shape = (count, *predictions.grid.shape)
    _check_map(engine, "probabilities of subsets", predictions.probability, shape)


def _check_response(engine: object, response: PromptResponse, shape: Shape3) -> None:
    sides = [side.indices(n) for side, n in zip(response.box, shape, strict=True)]
    inside = all(
        (side.start, side.stop, 1) == known and known[0] < known[1]
        for side, known in zip(response.box, sides, strict=True)
    )
    if not inside:
        _refuse(engine, f"the box {response.box}, which is not within {shape}")
    part = tuple(stop - start for start, stop, _ in sides)
    _check_map(engine, "a probability", response.probability, part)
    _check_map(engine, "attention", response.attention, part, math.inf)
    if response.settled.shape != part or response.settled.dtype != bool:
        _refuse(engine, f"`settled` as {response.settled.dtype} of {response.settled.shape}")


def _within_brain(prediction: Prediction, prepared: PreparedStudy) -> Prediction:
    """Return a prediction in float32 that is zero outside the brain; outlines there are named."""
    cavity, brain = prediction.cavity, prepared.brain
    outlined = prediction.probability[Region.WT] >= prediction.thresholds[Region.WT]
    if cavity is not None:
        outlined = outlined | (cavity >= 0.5)
    outside_ml = prepared.working.volume_ml(outlined & ~brain)
    notice = f"{millilitres(outside_ml)} ml that the engine outlined outside the brain were omitted"
    return replace(
        prediction,
        probability={
            region: (prediction.probability[region] * brain).astype(np.float32) for region in Region
        },
        cavity=None if cavity is None else (cavity * brain).astype(np.float32),
        notices=(*prediction.notices, f"{notice}.") if outside_ml else tuple(prediction.notices),
    )
