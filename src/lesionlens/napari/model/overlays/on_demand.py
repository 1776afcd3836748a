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
    elsewhere,
    layer_attention_raw,
    voxel_attention_raw,
)
from lesionlens.analysis.explain.search import AttentionFractions, masks_of, shares
from lesionlens.analysis.findings.components import ComponentMask
from lesionlens.analysis.findings.edits import without_edits
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.arrays import frozen
from lesionlens.base.records.prediction import Trace
from lesionlens.base.records.study import PreparedStudy
from lesionlens.engines.engine import Target
from lesionlens.engines.plugin_engines import attribute, traced_weights
from lesionlens.napari.model.choices.choices import LayerChoice, SecondOpinion
from lesionlens.napari.model.overlays.maps import UNIFORM_EVIDENCE, MapView, multiples, onto

_ATTENDED_LOCALLY = (
    f"This voxel attended to its surroundings, and uniformly beyond {AROUND_MM:.0f} mm: a map "
    "would show nothing else."
)
EVIDENCE_TOP = 0.5
"""Probability difference with full colour, in every study."""
_TICKS = ((-0.5, "-0.5 against"), (0.0, "0"), (0.5, "+0.5 for"))
_MAX_LISTED = 4


def evidence_view(analysis: Analysis, sequence: MrSequence) -> MapView:
    """Return the contribution map of one sequence.

    Raises
    ------
    UnusableInputError
        The result has no such map.
    """
    evidence = analysis.volumes.evidence
    if evidence is None or sequence not in evidence.shares:
        raise UnusableInputError(
            found=f"a result without the contribution of {sequence.display_name} at each voxel",
            expected="a result of an engine that can omit single sequences",
            next_step="Analyse the study again",
        )
    prepared = analysis.prepared
    data = onto(evidence.shares[sequence], evidence.grid, prepared.working)
    network_findings = without_edits(analysis).findings
    components = ComponentMask.of(network_findings, prepared.native)
    means = [
        f"{candidate.id}: {evidence.within(component.voxels)[sequence]:+z.2f}"
        for candidate, component in zip(
            network_findings.candidates, components.voxels_on(evidence.grid), strict=True
        )
    ]
    listed = ", ".join(means[:_MAX_LISTED])
    mean = f"Mean of {sequence.display_name} within the network's candidates"
    summary = f"{mean} · {listed}. " if listed else ""
    return MapView(
        frozen(np.asarray(data, np.float32)),
        EVIDENCE_TOP,
        _TICKS,
        "change of the probability by this sequence, up (blue) or down (orange): exact Shapley "
        "values of the first pass; with the other maps and the output without images they sum to "
        "its probability",
        low=-EVIDENCE_TOP,
        role="evidence",
        statistics=f"{summary}Exact Shapley values of the first pass, "
        f"{float(evidence.grid.spacing_mm[0]):.2g} mm.",
    )


def attended_text(analysis: Analysis, trace: Trace, region: Region) -> str:
    """Report the positions attended to by the first layer, and by the deciding layers."""
    if trace.layer_attention is None:
        return ""
    prepared, findings = analysis.prepared, analysis.findings
    candidate_mask: NDArray[np.bool_] = onto(
        (findings.components > 0).astype(np.uint8), prepared.native, prepared.working, nearest=True
    ).astype(bool)
    dismissed = np.zeros(prepared.native.shape, np.uint8)
    for dismissed_region in findings.considered:
        dismissed[tuple(dismissed_region.voxels.T)] = 1
    dismissed_mask = onto(dismissed, prepared.native, prepared.working, nearest=True).astype(bool)
    masks = masks_of(prepared, candidate_mask, dismissed_mask)
    first_layer = traced_weights(trace.layer_attention, prepared, region, 0, None)
    text = _attended_text("First layer", shares(first_layer, masks))
    if region not in trace.cross:
        return text
    return f"{text} {_attended_text('Decided from', shares(trace.cross[region], masks))}"


def _attended_text(source: str, attended: AttentionFractions) -> str:
    parts = [
        f"{100 * attended.candidates:.0f}% in candidates",
        f"{100 * attended.contralateral:.0f}% opposite them",
    ]
    if attended.dismissed is not None:
        parts.append(f"{100 * attended.dismissed:.0f}% in regions also considered")
    return f"{source}: {', '.join(parts)}."


def probed(result: Any, prepared: PreparedStudy, voxel: tuple[int, int, int]) -> MapView | str:
    """Return the attention of a voxel of the reference grid; text if a map shows nothing else.

    Raises
    ------
    UnusableInputError
        The voxel is outside the brain, or the engine has no probe.
    """
    attention = voxel_attention_raw(result.trace, prepared, voxel)
    fraction = elsewhere(attention, prepared, voxel)
    return _ATTENDED_LOCALLY if fraction < MIN_ELSEWHERE else multiples(attention)


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
        weights = attribute(result.engine, prepared, Target(region), layer.value).data
        return multiples(relative(weights, prepared.brain), UNIFORM_EVIDENCE)
    if layer is SecondOpinion.ROLLOUT:
        start_mm = np.array(at_mm or _strongest(result.trace.cross[region], prepared))
        i, j, k = prepared.native.nearest_voxel(start_mm).tolist()
        return multiples(voxel_attention_raw(result.trace, prepared, (i, j, k)))
    view = multiples(layer_attention_raw(result.trace, prepared, region, int(layer), head))
    if layer == 0 and head is None:
        return replace(view, statistics=attended_text(result.analysis, result.trace, region))
    return view


def _strongest(weights: NDArray[np.float32], prepared: PreparedStudy) -> tuple[float, ...]:
    """Return the position of the most attended voxel, mm."""
    voxel = np.unravel_index(int(weights.argmax()), weights.shape)
    return tuple(float(v) for v in prepared.working.to_mm(np.array(voxel)))
