"""Validate the predictions of engines, and keep what a study's sequences can show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import chain
from typing import Any

import numpy as np

from lesionlens.base import plugins
from lesionlens.base.errors import PluginError
from lesionlens.base.geometry import Floats
from lesionlens.base.labels import LesionClass, Region, without_enhancing
from lesionlens.base.record_validation import validated_record
from lesionlens.base.records.arrays import Volume, checksums
from lesionlens.base.records.findings import LESION_PARTS
from lesionlens.base.records.prediction import (
    Capability,
    EngineInfo,
    FirstPass,
    PerturbedPrediction,
    Prediction,
)
from lesionlens.base.records.prompts import PromptResponse
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.text import is_writable, millilitres
from lesionlens.engines.engine import Engine

_TOLERANCE = 1e-3
"""Tolerance for rounding: how far a probability may exceed 0 to 1, or that of its enclosing
region.
"""
_CAVITY_THRESHOLD = 0.5


def validated(engine: Engine, prediction: Any, prepared: PreparedStudy) -> Prediction:
    """Return a third-party engine's prediction within the brain, with a notice about the rest.

    Raises
    ------
    PluginError
        It is not a `Prediction`, is on another grid, or has values that are not probabilities,
        regions that are not nested, or invalid thresholds, notices or identity.
    """
    _check_type(engine, prediction, Prediction, "a prediction")
    info: Any = prediction.engine
    if not _is_engine_info(info):
        requirement = "its EngineInfo, with name and version as text and a set of capabilities"
        raise _refusal(engine, "a prediction that names no engine", requirement)
    engine_name = getattr(getattr(engine, "info", None), "name", None)
    if info.name != engine_name:
        expected_name = f"its own, {engine_name!r:.100}: results name the engine that made them"
        raise _refusal(engine, f"a prediction by the name of {info.name!r:.100}", expected_name)
    prediction = validated_record(prediction, Prediction, _engine_label(engine))
    if set(prediction.probability) != set(Region):
        regions = ", ".join(str(region) for region in prediction.probability) or "none"
        raise _refusal(engine, f"the regions {regions}", ", ".join(Region))
    for defect, expected in defects(prediction, prepared):
        raise _refusal(engine, defect, expected)
    probability = {r: prediction.probability[r].astype(np.float32, copy=False) for r in Region}
    return _limited_to_brain(replace(prediction, probability=probability), prepared)


def defects(prediction: Prediction, prepared: PreparedStudy) -> Iterator[tuple[str, str]]:
    """Yield each defect in the values of a prediction, and what was expected.

    Parameters
    ----------
    prediction : Prediction
        Of any engine; without T1c it may lack enhancing tumour.
    """
    if not set(prepared.regions) <= set(prediction.probability):
        yield (
            f"the regions {', '.join(prediction.probability) or 'none'}",
            ", ".join(prepared.regions),
        )
    enclosing: Floats | None = None
    for region in Region:
        if region in prediction.probability:
            values = prediction.probability[region]
            defect = _probability_defect(values, prepared.working.shape, enclosing)
            if defect:
                yield f"{region} {defect[0]}", defect[1]
                return
            enclosing = values
    yield from _part_defects(prediction, prepared.working.shape)


def validated_perturbed(engine: object, predictions: Any, count: int) -> PerturbedPrediction:
    """Return an engine's predictions of perturbed inputs, all of them probabilities.

    Built-in engines are covered by tests and not validated here.

    Raises
    ------
    PluginError
        It is something else, is for another number of inputs, or contains other values.
    """
    if plugins.is_builtin(engine):
        builtin: PerturbedPrediction = predictions
        return builtin
    _check_type(engine, predictions, PerturbedPrediction, "perturbed inputs")
    checked = validated_record(predictions, PerturbedPrediction, _engine_label(engine))
    for defect, expected in defects_perturbed(checked, count):
        raise _refusal(engine, defect, expected)
    return checked


def validated_first_pass(engine: object, first_pass: Any) -> FirstPass:
    """Return a third-party engine's first pass, on one input, with all numbers in their range.

    Raises
    ------
    PluginError
        It is something else, or contains values that are not probabilities.
    """
    checked = validated_record(first_pass, FirstPass, _engine_label(engine))
    for defect, expected in defects_first_pass(checked):
        raise _refusal(engine, defect, expected)
    return checked


def defects_first_pass(first_pass: FirstPass) -> Iterator[tuple[str, str]]:
    """Yield each defect in a first pass; see `defects`."""
    yield from defects_perturbed(first_pass.seen, 1)
    if not (0 < first_pass.threshold <= 1 and _is_finite(asdict(first_pass.scoring))):
        yield (
            f"a first pass with the threshold {first_pass.threshold:g}, {first_pass.scoring}",
            "a threshold above 0 to 1 and finite numbers",
        )


def defects_perturbed(
    predictions: PerturbedPrediction, count: int, subject: str = "perturbed inputs"
) -> Iterator[tuple[str, str]]:
    """Yield each defect in predictions of perturbed inputs, `count` of them; see `defects`."""
    shape = predictions.grid.shape
    maps: dict[str, tuple[Floats, tuple[int, ...]]]
    maps = {"probability": (predictions.probability, (count, *shape))}
    if predictions.inner is not None:
        maps["inner"] = predictions.inner, (count, 2, *shape)
    if predictions.lesion_scores is not None:
        maps["lesion_scores"] = predictions.lesion_scores, (count, *shape)
    for name, (values, expected_shape) in maps.items():
        defect = _probability_defect(values, expected_shape)
        if defect:
            yield f"{name} of {subject} {defect[0]}", defect[1]
    thresholds = predictions.thresholds
    if thresholds is not None and not (
        len(thresholds) == count and all(0 < threshold <= 1 for threshold in thresholds)
    ):
        yield f"the thresholds {thresholds} of {subject}", f"{count}, each above 0 to 1"


def validated_response(engine: object, response: Any, shape: tuple[int, ...]) -> PromptResponse:
    """Return a third-party engine's response to prompts on a grid of this shape, with its maker.

    Raises
    ------
    PluginError
        It is something else, its box is empty or outside the grid, its arrays do not fit, or its
        maker is not a text.
    """
    _check_type(engine, response, PromptResponse, "prompts")
    checked = validated_record(response, PromptResponse, _engine_label(engine))
    if not _is_box(checked.box, shape):
        raise _refusal(engine, f"the box {checked.box}", f"slices with start and stop in {shape}")
    box_shape = tuple(side.stop - side.start for side in checked.box)
    defect = _probability_defect(checked.probability, box_shape)
    if defect:
        raise _refusal(engine, f"probability of a prompt {defect[0]}", defect[1])
    check_weights(engine, checked.attention, box_shape, "attention of a prompt")
    if getattr(checked.settled, "shape", None) != box_shape or checked.settled.dtype != bool:
        raise _refusal(engine, "`settled` of another kind", f"bool of {box_shape}")
    return replace(checked, made_by=checked.made_by or _identity_text(engine))


def validated_attribution(engine: object, attribution: Any, shape: tuple[int, ...]) -> Volume:
    """Return a third-party engine's attribution on a grid of this shape.

    Raises
    ------
    PluginError
        It is something else, or holds negative or infinite values or NaN.
    """
    if not plugins.is_builtin(engine):
        _check_type(engine, attribution, Volume, "an attribution")
    volume: Volume = attribution
    check_weights(engine, volume.data, shape, "an attribution")
    return volume


def _is_box(box: Any, shape: tuple[int, ...]) -> bool:
    if not isinstance(box, tuple) or len(box) != len(shape):
        return False
    return all(
        isinstance(side, slice)
        and isinstance(side.start, int | np.integer)
        and isinstance(side.stop, int | np.integer)
        and side.step in (None, 1)
        and 0 <= side.start < side.stop <= size
        for side, size in zip(box, shape, strict=True)
    )


def _identity_text(engine: object) -> str:
    """Return an engine's name, version and weights; empty if it does not identify itself."""
    info: Any = getattr(engine, "info", None)
    if not _is_engine_info(info):
        return ""
    weights = f", weights {info.weights_sha256[:8]}" if info.weights_sha256 else ""
    return f"{info.name} {info.version}{weights}"


def check_weights(plugin: object, values: Any, shape: tuple[int, ...], subject: str) -> None:
    """Refuse attention of a third-party plug-in unless its weights are finite and non-negative.

    Raises
    ------
    PluginError
        It has another shape, negative or infinite values or NaN.
    """
    if plugins.is_builtin(plugin):
        return
    for defect, expected in defects_of_weights(values, shape):
        raise _refusal(plugin, f"{subject} {defect}", expected)


def defects_of_weights(values: Any, shape: tuple[int, ...]) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with attention on a grid of this shape; see `defects`."""
    defect = _shape_defect(values, shape)
    if defect:
        yield defect
    elif not 0 <= float(values.min()) <= float(values.max()) < np.inf:  # NaN is refused too
        yield "with negative or infinite values or NaN", "weights"


def _part_defects(prediction: Any, shape: tuple[int, ...]) -> Iterator[tuple[str, str]]:
    """Yield each defect outside the regions' probabilities, and what was expected."""
    classes = prediction.class_probabilities
    maps = {"cavity": (prediction.cavity, shape), "uncertainty": (prediction.uncertainty, shape)}
    if classes is not None:
        maps["class_probabilities"] = classes.share, (len(LesionClass), *classes.grid.shape)
        if not 0 <= classes.apart < 1:
            yield f"the bound {classes.apart:g} of what is listed apart", "0 to below 1"
    for name, (values, expected_shape) in maps.items():
        defect = None if values is None else _probability_defect(values, expected_shape)
        if defect:
            yield f"{name} {defect[0]}", defect[1]
    if prediction.unperturbed is not None:
        yield from defects_perturbed(prediction.unperturbed, 1, "the unperturbed input")
    for region, weights in (prediction.trace.cross if prediction.trace else {}).items():
        for weights_defect, expected in defects_of_weights(weights, shape):
            yield f"attention of {region} {weights_defect}", expected
    yield from _value_defects(prediction)


def _value_defects(prediction: Any) -> Iterator[tuple[str, str]]:
    """Yield each defect in the single values; with NaN in them nothing would be flagged."""
    if not _are_thresholds(prediction.thresholds):
        yield f"the thresholds {prediction.thresholds!r:.100}", "one for each region, above 0 to 1"
    unsegmented = frozenset(prediction.unsegmented)
    if unsegmented not in (frozenset(), {Region.ET}, LESION_PARTS):
        yield (
            f"the regions {', '.join(prediction.unsegmented)} as not segmented",
            "et, or tc and et: each region contains the next",
        )
    for region in prediction.unsegmented:
        if np.any(prediction.probability.get(region, 0)):
            yield f"a probability of {region}, which it says it does not segment", "0 throughout"
    for name in ("scoring", "slight_enhancement"):
        if not _is_finite(asdict(getattr(prediction, name))):
            yield f"the {name} {getattr(prediction, name)!r:.100}", "finite numbers"
    if prediction.trace and not 0 <= prediction.trace.spacing_mm < np.inf:
        yield f"attention {prediction.trace.spacing_mm:g} mm apart", "a finite distance, 0 for none"
    if not 0 <= prediction.engine.floor <= 1 or not all(
        map(np.isfinite, chain(*prediction.engine.operating_points))
    ):
        yield (
            "an invalid score threshold",
            "a floor of 0 to 1, and operating points of finite numbers",
        )


def _is_engine_info(info: Any) -> bool:
    if not isinstance(info, EngineInfo) or not plugins.are_texts((info.name, info.version)):
        return False
    if not info.name or not all(map(is_writable, (info.name, info.version))):
        return False
    capabilities: Any = info.capabilities
    return isinstance(capabilities, frozenset | set) and capabilities <= set(Capability)


def _is_finite(values: Mapping[str, Any]) -> bool:
    """Return whether all numbers of a record are finite; None is a part that was not fitted."""
    return all(
        value is None or (_is_finite(value) if isinstance(value, Mapping) else np.isfinite(value))
        for value in values.values()
    )


def _are_thresholds(values: Any) -> bool:
    if not isinstance(values, Mapping) or set(values) != set(Region):
        return False
    return all(
        isinstance(value, int | float | np.floating) and 0 < value <= 1 for value in values.values()
    )


def without_invisible_regions(prediction: Prediction, prepared: PreparedStudy) -> Prediction:
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


def _shape_defect(values: Any, shape: tuple[int, ...]) -> tuple[str, str] | None:
    """Return what is wrong with an array, and what was expected; None if it is a valid map."""
    actual_shape, dtype = getattr(values, "shape", None), getattr(values, "dtype", None)
    is_float = isinstance(values, np.ndarray) and np.issubdtype(values.dtype, np.floating)
    is_masked = isinstance(values, np.ma.MaskedArray)  # checks would pass over what is masked
    if is_float and actual_shape == shape and not is_masked:
        return None
    description = (
        "no array"
        if actual_shape is None
        else f"{'a masked' if is_masked else 'an'} array of {actual_shape}, {dtype}"
    )
    return f"as {description}", f"an array of {shape}, float32: the shape of its grid"


def _probability_defect(
    values: Any, shape: tuple[int, ...], enclosing: Floats | None = None
) -> tuple[str, str] | None:
    """Return what is wrong with a probability, and what was expected; None if it is valid.

    `enclosing` is the probability of the region round it.
    """
    defect = _shape_defect(values, shape)
    if defect:
        return defect
    low, high = float(values.min()), float(values.max())
    if not (low >= -_TOLERANCE and high <= 1 + _TOLERANCE):  # written so that NaN is refused too
        return f"from {low:g} to {high:g}", "probabilities of 0 to 1, none of them NaN"
    if enclosing is not None and float((values - enclosing).max()) > _TOLERANCE:
        return "above the region round it at some voxels", "et within tc within wt"
    return None


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


def _checksum(prepared: PreparedStudy) -> tuple[int, ...]:
    """Return checksums of the images, the brain and their positions in the patient."""
    images = (prepared.channels, prepared.present, prepared.brain)
    positions = (prepared.working.affine, prepared.native.affine, prepared.to_native)
    return checksums((*images, *positions))


def _check_type(engine: object, value: Any, record: type, subject: str) -> None:
    if not isinstance(value, record):
        requirement = f"a {record.__module__}.{record.__name__}"
        raise _refusal(engine, f"{type(value).__name__} for {subject}", requirement)


def _refusal(engine: object, defect: str, expected: str) -> PluginError:
    return PluginError(who=_engine_label(engine), why=f"gave {defect}", expected=expected)


def _engine_label(engine: object) -> str:
    type_name = getattr(engine, "__qualname__", type(engine).__name__)
    return plugins.name_of(engine, f"engine {type_name!r}")
