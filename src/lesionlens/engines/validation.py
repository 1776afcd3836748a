"""Validate the prediction of a third-party engine, and keep what a study's sequences can show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lesionlens.base import plugins
from lesionlens.base.errors import PluginError
from lesionlens.base.labels import LesionClass, Region, without_enhancing
from lesionlens.base.records.prediction import EngineInfo, Prediction
from lesionlens.base.records.study import PreparedStudy
from lesionlens.engines.engine import Engine

Floats = NDArray[np.float32]
_SLACK = 1e-3
"""Tolerance for rounding: how far a probability may exceed 0 to 1, or that of its enclosing
region.
"""


def validated(engine: Engine, found: Any, prepared: PreparedStudy) -> Prediction:
    """Return a prediction without what lies outside the brain, with a notice about its volume.

    Raises
    ------
    PluginError
        It is no `Prediction`, on another grid, has values that are not probabilities, regions that
        are not nested, or thresholds, notices or an identity that no engine may have.
    """
    if not isinstance(found, Prediction):
        made = "a lesionlens.base.records.prediction.Prediction"
        raise _refused(engine, f"{type(found).__name__} for a prediction", made)
    info: Any = found.engine
    if not isinstance(info, EngineInfo) or not _are_texts((info.name, info.version)):
        made = "its EngineInfo, with name and version as text"
        raise _refused(engine, "a prediction that names no engine", made)
    if set(found.probability) != set(Region):
        given = ", ".join(str(region) for region in found.probability) or "none"
        raise _refused(engine, f"the regions {given}", ", ".join(Region))
    shape = prepared.working.shape
    taken: dict[Region, Floats] = {}
    for region in Region:
        values = found.probability[region]
        wrong = _not_a_map(values, shape) or _no_probability(values, taken)
        if wrong:
            raise _refused(engine, f"{region} {wrong[0]}", wrong[1])
        taken[region] = values.astype(np.float32, copy=False)
    for what, expected in _wrong_parts(found, shape):
        raise _refused(engine, what, expected)
    return _within_brain(replace(found, probability=taken), prepared)


def _wrong_parts(found: Any, shape: tuple[int, ...]) -> Iterator[tuple[str, str]]:
    """Yield what is wrong beside the probabilities of the regions, and what was expected."""
    classes, first = found.class_probabilities, found.unperturbed
    maps = {"cavity": (found.cavity, shape), "uncertainty": (found.uncertainty, shape)}
    if classes is not None:
        maps["class_probabilities"] = classes.share, (len(LesionClass), *classes.grid.shape)
    if first is not None:
        maps["unperturbed"] = first.probability, (1, *first.grid.shape)
    for name, (values, wanted) in maps.items():
        wrong = values is not None and (_not_a_map(values, wanted) or _no_probability(values, {}))
        if wrong:
            yield f"{name} {wrong[0]}", wrong[1]
    for region, weights in (found.trace.cross if found.trace else {}).items():
        wrong = _not_a_map(weights, shape)
        if wrong:
            yield f"attention of {region} {wrong[0]}", wrong[1]
        elif not 0 <= float(weights.min()) <= float(weights.max()) < np.inf:  # NaN too
            yield f"attention of {region} with negative or infinite values or NaN", "weights"
    if not _are_thresholds(found.thresholds):
        yield f"the thresholds {found.thresholds!r:.100}", "one for each region, above 0 to 1"
    if not isinstance(found.notices, tuple | list) or not _are_texts(found.notices):
        yield f"the notices {found.notices!r:.100}", "a tuple of texts"


def _are_texts(values: Any) -> bool:
    return all(isinstance(one, str) for one in values)


def _are_thresholds(values: Any) -> bool:
    if not isinstance(values, Mapping) or set(values) != set(Region):
        return False
    return all(
        isinstance(one, int | float | np.floating) and 0 < one <= 1 for one in values.values()
    )


def visible_only(found: Prediction, prepared: PreparedStudy) -> Prediction:
    """Remove enhancing tumour if T1c, the only sequence that shows it, is missing."""
    if prepared.has_t1c:
        return found
    trace = found.trace
    if trace is not None:
        trace = replace(trace, cross=without_enhancing(trace.cross))
    return replace(found, probability=without_enhancing(found.probability), trace=trace)


def _within_brain(found: Prediction, prepared: PreparedStudy) -> Prediction:
    """Remove voxels outside the brain, with a notice about their volume."""
    whole = found.probability[Region.WT] >= found.thresholds[Region.WT]
    ml = np.count_nonzero(whole & ~prepared.brain) * prepared.working.voxel_ml
    words = f"{ml:.1f} ml that the engine drew outside the brain were left out."
    return replace(
        found,
        probability={region: p * prepared.brain for region, p in found.probability.items()},
        notices=(*found.notices, words) if ml else found.notices,
    )


def _not_a_map(values: Any, shape: tuple[int, ...]) -> tuple[str, str] | None:
    """Return what is wrong with an array, and what was expected; None if it is a valid map."""
    found, kind = getattr(values, "shape", None), getattr(values, "dtype", None)
    real = isinstance(values, np.ndarray) and np.issubdtype(values.dtype, np.floating)
    if real and found == shape:
        return None
    given = "no array" if found is None else f"an array of {found}, {kind}"
    return f"as {given}", f"an array of {shape}, float32: the shape of its grid"


def _no_probability(values: Floats, inside_of: dict[Region, Floats]) -> tuple[str, str] | None:
    """Return what is wrong with a probability, and what was expected; None if it is valid."""
    low, high = float(values.min()), float(values.max())
    if not (low >= -_SLACK and high <= 1 + _SLACK):  # written so that NaN is refused too
        return f"from {low:g} to {high:g}", "probabilities of 0 to 1, none of them NaN"
    if inside_of and float((values - inside_of[next(reversed(inside_of))]).max()) > _SLACK:
        return "above the region round it at some voxels", "et within tc within wt"
    return None


def _refused(engine: Engine, what: str, expected: str) -> PluginError:
    who = plugins.name_of(engine, f"engine {type(engine).__name__!r}")
    return PluginError(who=who, why=f"gave {what}", expected=expected)
