"""What a result is asked while its reader watches: probes, single layers, second opinions.

Each answer is drawn on the working grid; none of this needs a window, all of it may take a moment.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lesionlens.analysis.explain.maps import relative
from lesionlens.analysis.explain.probe import (
    AROUND_MM,
    LEAST_ELSEWHERE,
    ask_raw,
    elsewhere,
    layer_attention_raw,
)
from lesionlens.base.records.study import PreparedStudy
from lesionlens.engines.engine import Target
from lesionlens.napari.model.choices.choices import LayerChoice, SecondOpinion
from lesionlens.napari.model.overlays.evidence import evidence_view, search_words
from lesionlens.napari.model.overlays.maps import EVEN_SHARE, MapView, attention_view, probe_view

_SURROUNDINGS = (
    f"This voxel attended to its surroundings, and evenly beyond {AROUND_MM:.0f} mm: a map of that "
    "would say no more."
)


def probed(result: Any, prepared: PreparedStudy, voxel: tuple[int, int, int]) -> MapView | str:
    """Ask where a voxel of the reference grid attended; in words where a map would say no more.

    Raises
    ------
    UnusableInputError
        It lies outside of the brain, or the engine cannot be asked.
    """
    answer = ask_raw(result.trace, prepared, voxel)
    found = elsewhere(answer, prepared, voxel)
    return _SURROUNDINGS if found < LEAST_ELSEWHERE else probe_view(answer)


def layer_view(result: Any, prepared: PreparedStudy, layer_choice: LayerChoice) -> MapView:
    """Ask for a layer, one of its heads or a second opinion.

    Parameters
    ----------
    result : Result
        With `.trace`, and for gradients `.engine`.
    prepared : PreparedStudy
        Of its analysis.
    layer_choice : LayerChoice
        What is wanted. A rollout without a place begins where the region's attention is strongest.

    Raises
    ------
    UnusableInputError
        The engine cannot answer that.
    """
    region, layer, head, at_mm = layer_choice
    if isinstance(layer, SecondOpinion) and layer.sequence is not None:
        return evidence_view(result.analysis, layer.sequence)
    if layer is SecondOpinion.GRADIENTS:
        weights = result.engine.attribute(prepared, Target(region), layer.value).data
        return attention_view(relative(weights, prepared.brain), EVEN_SHARE)
    if layer is SecondOpinion.ROLLOUT:
        place = np.array(at_mm or _strongest(result.trace.cross[region], prepared))
        i, j, k = (round(float(v)) for v in prepared.native.to_voxel(place))
        return probe_view(ask_raw(result.trace, prepared, (i, j, k)))
    view = attention_view(layer_attention_raw(result.trace, prepared, region, int(layer), head))
    if layer == 0 and head is None:
        return replace(view, words=search_words(result.analysis, result.trace, region))
    return view


def _strongest(weights: NDArray[np.float32], prepared: PreparedStudy) -> tuple[float, ...]:
    """Return the millimetres of the most attended voxel."""
    place = np.unravel_index(int(weights.argmax()), weights.shape)
    return tuple(float(v) for v in prepared.working.to_mm(np.array(place)))
