"""Defects in the output of engines, each with what was expected.

Nothing is raised here: callers refuse the output. Defects after the first may be its consequences.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import chain
from typing import Any

import numpy as np

from lesionlens.base.geometry import Floats
from lesionlens.base.labels import LesionClass, Region
from lesionlens.base.records.findings import LESION_PARTS
from lesionlens.base.records.prediction import FirstPass, PerturbedPrediction, Prediction
from lesionlens.base.records.prompts import PromptResponse
from lesionlens.base.records.study import PreparedStudy

Defect = tuple[str, str]
"""What was found, as the end of a sentence, and what was expected."""
_TOLERANCE = 1e-3
"""Tolerance for rounding: how far a probability may exceed 0 to 1, or that of its enclosing
region.
"""


def defects_of(prediction: Prediction, prepared: PreparedStudy) -> Iterator[Defect]:
    """Yield the defects in the values of a prediction.

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
            for defect in _probability_defects(values, prepared.working.shape, enclosing):
                yield _of(region, defect)
                return
            enclosing = values
    yield from _part_defects(prediction, prepared.working.shape)


def defects_of_first_pass(first_pass: FirstPass) -> Iterator[Defect]:
    """Yield the defects of a first pass, which is on one input."""
    yield from defects_of_perturbed(first_pass.seen, 1)
    if not (0 < first_pass.threshold <= 1 and _is_finite(asdict(first_pass.scoring))):
        yield (
            f"a first pass with the threshold {first_pass.threshold:g}, {first_pass.scoring}",
            "a threshold above 0 to 1 and finite numbers",
        )


def defects_of_perturbed(
    predictions: PerturbedPrediction, count: int, subject: str = "perturbed inputs"
) -> Iterator[Defect]:
    """Yield the defects in predictions of perturbed inputs, `count` of them."""
    shape = predictions.grid.shape
    maps: dict[str, tuple[Floats, tuple[int, ...]]]
    maps = {"probability": (predictions.probability, (count, *shape))}
    if predictions.inner is not None:
        maps["inner"] = predictions.inner, (count, 2, *shape)
    if predictions.lesion_scores is not None:
        maps["lesion_scores"] = predictions.lesion_scores, (count, *shape)
    for name, (values, expected_shape) in maps.items():
        for defect in _probability_defects(values, expected_shape):
            yield _of(f"{name} of {subject}", defect)
    thresholds = predictions.thresholds
    if thresholds is not None and not (
        len(thresholds) == count and all(0 < threshold <= 1 for threshold in thresholds)
    ):
        yield f"the thresholds {thresholds} of {subject}", f"{count}, each above 0 to 1"


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


def defects_of_response(response: PromptResponse, shape: tuple[int, ...]) -> Iterator[Defect]:
    """Yield the defects of a response to prompts on a grid of this shape."""
    if not _is_box(response.box, shape):
        yield f"the box {response.box}", f"slices with start and stop in {shape}"
        return
    box_shape = tuple(side.stop - side.start for side in response.box)
    for defect in _probability_defects(response.probability, box_shape):
        yield _of("probability of a prompt", defect)
    yield from defects_of_weights(response.attention, box_shape, "attention of a prompt")
    if getattr(response.settled, "shape", None) != box_shape or response.settled.dtype != bool:
        yield "`settled` of another kind", f"bool of {box_shape}"


def defects_of_weights(
    values: Any, shape: tuple[int, ...], subject: str = "attention"
) -> Iterator[Defect]:
    """Yield the defects of attention on a grid of this shape."""
    defect = _shape_defect(values, shape)
    if defect:
        yield _of(subject, defect)
    elif not 0 <= float(values.min()) <= float(values.max()) < np.inf:  # NaN is refused too
        yield f"{subject} with negative or infinite values or NaN", "weights"


def _part_defects(prediction: Any, shape: tuple[int, ...]) -> Iterator[Defect]:
    """Yield the defects outside the regions' probabilities."""
    classes = prediction.class_probabilities
    maps = {"cavity": (prediction.cavity, shape), "uncertainty": (prediction.uncertainty, shape)}
    if classes is not None:
        maps["class_probabilities"] = classes.share, (len(LesionClass), *classes.grid.shape)
    for name, (values, expected_shape) in maps.items():
        for defect in () if values is None else _probability_defects(values, expected_shape):
            yield _of(name, defect)
    if prediction.unperturbed is not None:
        yield from defects_of_perturbed(prediction.unperturbed, 1, "the unperturbed input")
    for region, weights in (prediction.trace.cross if prediction.trace else {}).items():
        yield from defects_of_weights(weights, shape, f"attention of {region}")
    yield from _value_defects(prediction)


def _value_defects(prediction: Any) -> Iterator[Defect]:
    """Yield the defects of the single values; with NaN in them nothing would be flagged."""
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


def _shape_defect(values: Any, shape: tuple[int, ...]) -> Defect | None:
    """Return the defect of an array; None if it is a map of this shape."""
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
    expected = f"an array of {shape}, float32"
    return f"as {description}", expected + (
        "" if actual_shape == shape else ": the shape of its grid"
    )


def _probability_defects(
    values: Any, shape: tuple[int, ...], enclosing: Floats | None = None
) -> Iterator[Defect]:
    """Yield the defects of a probability; `enclosing` is that of the region round it."""
    defect = _shape_defect(values, shape)
    if defect:
        yield defect
        return
    low, high = float(values.min()), float(values.max())
    if not (low >= -_TOLERANCE and high <= 1 + _TOLERANCE):  # written so that NaN is refused too
        yield f"from {low:g} to {high:g}", "probabilities of 0 to 1, none of them NaN"
    if enclosing is not None and float((values - enclosing).max()) > _TOLERANCE:
        yield "above the region round it at some voxels", "et within tc within wt"


def _of(subject: str, defect: Defect) -> Defect:
    return f"{subject} {defect[0]}", defect[1]
