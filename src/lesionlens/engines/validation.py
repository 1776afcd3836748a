"""Validate the predictions of engines, and keep what a study's sequences can show."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lesionlens.base import plugins
from lesionlens.base.declared import as_declared
from lesionlens.base.errors import PluginError
from lesionlens.base.labels import LesionClass, Region, without_enhancing
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

Floats = NDArray[np.float32]
_SLACK = 1e-3
"""Tolerance for rounding: how far a probability may exceed 0 to 1, or that of its enclosing
region.
"""


def validated(engine: Engine, found: Any, prepared: PreparedStudy) -> Prediction:
    """Return a third-party engine's prediction within the brain, with a notice about the rest.

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
    if not _names_engine(info):
        made = "its EngineInfo, with name and version as text and a set of capabilities"
        raise _refused(engine, "a prediction that names no engine", made)
    known = getattr(getattr(engine, "info", None), "name", None)
    if info.name != known:
        own = f"its own, {known!r:.100}: results name the engine that made them"
        raise _refused(engine, f"a prediction by the name of {info.name!r:.100}", own)
    found = as_declared(found, Prediction, _who(engine))
    if set(found.probability) != set(Region):
        given = ", ".join(str(region) for region in found.probability) or "none"
        raise _refused(engine, f"the regions {given}", ", ".join(Region))
    for what, expected in defects(found, prepared):
        raise _refused(engine, what, expected)
    taken = {r: found.probability[r].astype(np.float32, copy=False) for r in Region}
    return _within_brain(replace(found, probability=taken), prepared)


def defects(found: Prediction, prepared: PreparedStudy) -> Iterator[tuple[str, str]]:
    """Yield each defect in the values of a prediction, and what was expected.

    Parameters
    ----------
    found : Prediction
        Of any engine; without T1c it may lack enhancing tumour.
    """
    if not set(prepared.regions) <= set(found.probability):
        yield f"the regions {', '.join(found.probability) or 'none'}", ", ".join(prepared.regions)
    around: dict[Region, Floats] = {}
    for region in Region:
        if region in found.probability:
            values = found.probability[region]
            wrong = _not_a_map(values, prepared.working.shape) or _no_probability(values, around)
            if wrong:
                yield f"{region} {wrong[0]}", wrong[1]
                return
            around[region] = values
    yield from _wrong_parts(found, prepared.working.shape)


def validated_perturbed(engine: object, found: Any, count: int) -> PerturbedPrediction:
    """Return an engine's predictions of perturbed inputs, all of them probabilities.

    Parameters
    ----------
    engine : SupportsPerturbation
        Built-in engines are covered by tests and not validated here.

    Raises
    ------
    PluginError
        It is something else, for another number of inputs, or holds values that are none.
    """
    if plugins.is_builtin(engine):
        return found  # type: ignore[no-any-return]
    if not isinstance(found, PerturbedPrediction):
        made = "a lesionlens.base.records.prediction.PerturbedPrediction"
        raise _refused(engine, f"{type(found).__name__} for perturbed inputs", made)
    checked = as_declared(found, PerturbedPrediction, _who(engine))
    for what, expected in defects_perturbed(checked, count):
        raise _refused(engine, what, expected)
    return checked


def validated_first_pass(engine: object, found: Any) -> FirstPass:
    """Return a third-party engine's first pass, on one input, with all numbers in their range.

    Raises
    ------
    PluginError
        It is something else, or holds values that are no probabilities.
    """
    checked = as_declared(found, FirstPass, _who(engine))
    for what, expected in defects_perturbed(checked.seen, 1):
        raise _refused(engine, what, expected)
    if not (0 < checked.threshold <= 1 and _is_finite(asdict(checked.scoring))):
        wrong = f"a first pass with the threshold {checked.threshold:g}, {checked.scoring}"
        raise _refused(engine, wrong, "a threshold above 0 to 1 and finite numbers")
    return checked


def defects_perturbed(found: PerturbedPrediction, count: int) -> Iterator[tuple[str, str]]:
    """Yield each defect in predictions of perturbed inputs, `count` of them; see `defects`."""
    shape = found.grid.shape
    maps: dict[str, tuple[Floats, tuple[int, ...]]]
    maps = {"probability": (found.probability, (count, *shape))}
    if found.inner is not None:
        maps["inner"] = found.inner, (count, 2, *shape)
    if found.lesion_scores is not None:
        maps["lesion_scores"] = found.lesion_scores, (count, *shape)
    for name, (values, wanted) in maps.items():
        wrong = _not_a_map(values, wanted) or _no_probability(values, {})
        if wrong:
            yield f"{name} of perturbed inputs {wrong[0]}", wrong[1]
    limits = found.thresholds
    if limits is not None and not (len(limits) == count and all(0 < one <= 1 for one in limits)):
        yield f"the thresholds {limits} of perturbed inputs", f"{count}, each above 0 to 1"


def validated_response(engine: object, found: Any, shape: tuple[int, ...]) -> PromptResponse:
    """Return a third-party engine's response to prompts on a grid of this shape, with its maker.

    Raises
    ------
    PluginError
        It is something else, its box is empty or outside the grid, its arrays do not fit, or what
        made it is no text.
    """
    if not isinstance(found, PromptResponse):
        made = "a lesionlens.base.records.prompts.PromptResponse"
        raise _refused(engine, f"{type(found).__name__} for prompts", made)
    checked = as_declared(found, PromptResponse, _who(engine))
    if not _is_box(checked.box, shape):
        raise _refused(engine, f"the box {checked.box}", f"slices with start and stop in {shape}")
    inside = tuple(side.stop - side.start for side in checked.box)
    wrong = _not_a_map(checked.probability, inside) or _no_probability(checked.probability, {})
    if wrong:
        raise _refused(engine, f"probability of a prompt {wrong[0]}", wrong[1])
    check_weights(engine, checked.attention, inside, "attention of a prompt")
    if getattr(checked.settled, "shape", None) != inside or checked.settled.dtype != bool:
        raise _refused(engine, "`settled` of another kind", f"bool of {inside}")
    return replace(checked, made_by=checked.made_by or _words_of(engine))


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


def _words_of(engine: object) -> str:
    """Return an engine's name, version and weights; empty if it does not identify itself."""
    info: Any = getattr(engine, "info", None)
    if not _names_engine(info):
        return ""
    weights = f", weights {info.weights_sha256[:8]}" if info.weights_sha256 else ""
    return f"{info.name} {info.version}{weights}"


def check_weights(plugin: object, values: Any, shape: tuple[int, ...], what: str) -> None:
    """Refuse attention of a third-party plug-in that is no array of finite weights from 0 on.

    Raises
    ------
    PluginError
        It has another shape, negative or infinite values or NaN.
    """
    if plugins.is_builtin(plugin):
        return
    for wrong, expected in defects_of_weights(values, shape):
        raise _refused(plugin, f"{what} {wrong}", expected)


def defects_of_weights(values: Any, shape: tuple[int, ...]) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with attention on a grid of this shape; see `defects`."""
    wrong = _not_a_map(values, shape) or _no_weights(values)
    if wrong:
        yield wrong


def _wrong_parts(found: Any, shape: tuple[int, ...]) -> Iterator[tuple[str, str]]:
    """Yield each defect outside the regions' probabilities, and what was expected."""
    classes, first = found.class_probabilities, found.unperturbed
    maps = {"cavity": (found.cavity, shape), "uncertainty": (found.uncertainty, shape)}
    if classes is not None:
        maps["class_probabilities"] = classes.share, (len(LesionClass), *classes.grid.shape)
        if not 0 <= classes.apart < 1:
            yield f"the bound {classes.apart:g} of what is listed apart", "0 to below 1"
    if first is not None:
        maps["unperturbed"] = first.probability, (1, *first.grid.shape)
    for name, (values, wanted) in maps.items():
        wrong = values is not None and (_not_a_map(values, wanted) or _no_probability(values, {}))
        if wrong:
            yield f"{name} {wrong[0]}", wrong[1]
    for region, weights in (found.trace.cross if found.trace else {}).items():
        for what, expected in defects_of_weights(weights, shape):
            yield f"attention of {region} {what}", expected
    yield from _wrong_facts(found)


def _wrong_facts(found: Any) -> Iterator[tuple[str, str]]:
    """Yield each defect in what is no array; NaN in it would flag nothing, without a word."""
    if not _are_thresholds(found.thresholds):
        yield f"the thresholds {found.thresholds!r:.100}", "one for each region, above 0 to 1"
    for name in ("scoring", "slight_enhancement"):
        if not _is_finite(asdict(getattr(found, name))):
            yield f"the {name} {getattr(found, name)!r:.100}", "finite numbers"
    if found.trace and not 0 <= found.trace.spacing_mm < np.inf:
        yield f"attention {found.trace.spacing_mm:g} mm apart", "a finite distance, 0 for none"
    if not 0 <= found.engine.floor <= 1 or not all(
        map(np.isfinite, chain(*found.engine.operating_points))
    ):
        yield (
            "a score threshold that is none",
            "floor of 0 to 1, operating points of finite numbers",
        )


def _names_engine(info: Any) -> bool:
    if not isinstance(info, EngineInfo) or not plugins.are_texts((info.name, info.version)):
        return False
    if not info.name or not all(map(is_writable, (info.name, info.version))):
        return False
    able: Any = info.capabilities
    return isinstance(able, frozenset | set) and able <= set(Capability)


def _is_finite(values: Mapping[str, Any]) -> bool:
    """Return whether all numbers of a record are finite; None is a part that was not fitted."""
    return all(
        one is None or (_is_finite(one) if isinstance(one, Mapping) else np.isfinite(one))
        for one in values.values()
    )


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
    ml = prepared.working.volume_ml(whole & ~prepared.brain)
    words = f"{millilitres(ml)} ml that the engine drew outside the brain were left out."
    return replace(
        found,
        probability={region: p * prepared.brain for region, p in found.probability.items()},
        notices=(*found.notices, words) if ml else found.notices,
    )


def _not_a_map(values: Any, shape: tuple[int, ...]) -> tuple[str, str] | None:
    """Return what is wrong with an array, and what was expected; None if it is a valid map."""
    found, kind = getattr(values, "shape", None), getattr(values, "dtype", None)
    real = isinstance(values, np.ndarray) and np.issubdtype(values.dtype, np.floating)
    masked = isinstance(values, np.ma.MaskedArray)  # checks would pass over what is masked
    if real and found == shape and not masked:
        return None
    given = (
        "no array"
        if found is None
        else f"{'a masked' if masked else 'an'} array of {found}, {kind}"
    )
    return f"as {given}", f"an array of {shape}, float32: the shape of its grid"


def _no_weights(values: Floats) -> tuple[str, str] | None:
    """Return what is wrong with attention, and what was expected; None if it is valid."""
    if 0 <= float(values.min()) <= float(values.max()) < np.inf:  # NaN fails too
        return None
    return "with negative or infinite values or NaN", "weights"


def _no_probability(values: Floats, inside_of: dict[Region, Floats]) -> tuple[str, str] | None:
    """Return what is wrong with a probability, and what was expected; None if it is valid."""
    low, high = float(values.min()), float(values.max())
    if not (low >= -_SLACK and high <= 1 + _SLACK):  # written so that NaN is refused too
        return f"from {low:g} to {high:g}", "probabilities of 0 to 1, none of them NaN"
    if inside_of and float((values - inside_of[next(reversed(inside_of))]).max()) > _SLACK:
        return "above the region round it at some voxels", "et within tc within wt"
    return None


@contextmanager
def images_kept(engine: object, prepared: PreparedStudy) -> Iterator[None]:
    """Refuse a third-party engine that changes the images: torch writes to read-only arrays too.

    Raises
    ------
    PluginError
        It changed them.
    """
    if plugins.is_builtin(engine):
        yield
        return
    before = _checksum(prepared)
    yield
    if _checksum(prepared) != before:
        raise PluginError(
            who=plugins.name_of(engine, f"engine {type(engine).__name__!r}"),
            why="changed the images that it was given",
            expected="an engine that changes a copy, such as torch.tensor(prepared.channels)",
        )


def _checksum(prepared: PreparedStudy) -> tuple[int, int]:
    """Return checksums of the images and the brain."""
    images, brain = (np.ascontiguousarray(one) for one in (prepared.channels, prepared.brain))
    return zlib.crc32(images.data), zlib.crc32(brain.data)


def _refused(engine: object, what: str, expected: str) -> PluginError:
    return PluginError(who=_who(engine), why=f"gave {what}", expected=expected)


def _who(engine: object) -> str:
    named = getattr(engine, "__qualname__", type(engine).__name__)
    return plugins.name_of(engine, f"engine {named!r}")
