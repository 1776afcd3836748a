"""Maps computed on request: probes, single layers, second opinions.

Maps are on the working grid. No window is needed; each call may take a moment.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lesionlens.analysis.explain.maps import relative
from lesionlens.analysis.explain.probe import (
    AROUND_MM,
    MIN_ELSEWHERE,
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
    f"This voxel attended to its surroundings, and uniformly beyond {AROUND_MM:.0f} mm: a map "
    "would show nothing else."
)


def probed(result: Any, prepared: PreparedStudy, voxel: tuple[int, int, int]) -> MapView | str:
    """Return the attention of a voxel of the reference grid; words if a map shows nothing else.

    Raises
    ------
    UnusableInputError
        The voxel is outside the brain, or the engine has no probe.
    """
    answer = ask_raw(result.trace, prepared, voxel)
    found = elsewhere(answer, prepared, voxel)
    return _SURROUNDINGS if found < MIN_ELSEWHERE else probe_view(answer)


def layer_view(result: Any, prepared: PreparedStudy, layer_choice: LayerChoice) -> MapView:
    """Return the map of a layer, one of its heads or a second opinion.

    Parameters
    ----------
    result : Result
        Result with `.trace`, and for gradients `.engine`.
    layer_choice : LayerChoice
        Requested map. A rollout without a start begins at the region's strongest attention.

    Raises
    ------
    UnusableInputError
        The engine does not support it.
    """
    region, layer, head, at_mm = layer_choice
    if isinstance(layer, SecondOpinion) and layer.sequence is not None:
        return evidence_view(result.analysis, layer.sequence)
    if layer is SecondOpinion.GRADIENTS:
        weights = result.engine.attribute(prepared, Target(region), layer.value).data
        return attention_view(relative(weights, prepared.brain), EVEN_SHARE)
    if layer is SecondOpinion.ROLLOUT:
        place = np.array(at_mm or _strongest(result.trace.cross[region], prepared))
        i, j, k = prepared.native.nearest_voxel(place).tolist()
        return probe_view(ask_raw(result.trace, prepared, (i, j, k)))
    view = attention_view(layer_attention_raw(result.trace, prepared, region, int(layer), head))
    if layer == 0 and head is None:
        return replace(view, statistics=search_words(result.analysis, result.trace, region))
    return view


def _strongest(weights: NDArray[np.float32], prepared: PreparedStudy) -> tuple[float, ...]:
    """Return the position of the most attended voxel, mm."""
    place = np.unravel_index(int(weights.argmax()), weights.shape)
    return tuple(float(v) for v in prepared.working.to_mm(np.array(place)))
