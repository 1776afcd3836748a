"""Explain an analysis: attention maps with their checks, uncertainty, overlap without a sequence.

`explain` runs with every analysis. `explain_sequences` adds Shapley values and the contribution of
each sequence at every voxel on request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from lesionlens.analysis import native_grid
from lesionlens.analysis.explain import checks, maps, subsets
from lesionlens.analysis.findings.candidates import Evidence
from lesionlens.analysis.findings.component_scores import score_by_all_views
from lesionlens.analysis.findings.components import ComponentMask, plain_scores
from lesionlens.analysis.findings.find import Flagged
from lesionlens.base.geometry import Floats
from lesionlens.base.labels import Region
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.attention import AttentionMaps
from lesionlens.base.records.findings import Findings
from lesionlens.base.records.prediction import Prediction
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import RunContext

MISSED = (
    "On a coarser grid the network does not outline {} again: uncertainty and the overlap without "
    "each sequence are not given, and the uncertainty map is 1 there"
)


@dataclass(frozen=True, slots=True, eq=False)
class Explanations:
    """Explanations of the flagged components."""

    evidence: Evidence
    maps: AttentionMaps | None
    """On the working grid, with checks; None from an engine without attention. Those on the native
    grid are in `evidence`."""
    notices: tuple[str, ...]


def explain(
    engine: object,
    prepared: PreparedStudy,
    prediction: Prediction,
    flagged: Flagged,
    probability: Mapping[Region, Floats],
    *,
    context: RunContext,
) -> Explanations:
    """Explain the flagged components.

    Parameters
    ----------
    engine : object
        Quick predictions are made if it has `predict_subsets`.
    probability : mapping of Region to (I, J, K) float32
        On the native grid.
    """
    trace, notices = prediction.trace, []
    attention_maps, attention = None, {}
    if trace is None:
        notices.append("This engine provides no attention maps")
    else:
        attention_maps = maps.normalised(trace, prepared.brain)
        attention = native_grid.regions_to_native(attention_maps.maps, prepared, nested=False)
        checked = checks.check_maps(trace, attention, flagged.components, prepared)
        attention_maps = replace(attention_maps, checks=checked)
    evidence = Evidence(
        scores=flagged.scores,
        attention=attention,
        probability=probability,
        class_probabilities=prediction.class_probabilities,
    )
    if prediction.unperturbed is None or not hasattr(engine, "predict_subsets"):
        uncertainty = prediction.uncertainty
        notices.append("This engine cannot compute the contribution of each sequence")
        if uncertainty is None:
            notices.append("This engine estimates no uncertainty")
        else:
            uncertainty = native_grid.to_native(uncertainty, prepared)
        scores = flagged.scores
        if prediction.unperturbed is None:
            scores = plain_scores(flagged.components, prediction, probability)
        evidence = replace(evidence, scores=scores, uncertainty=uncertainty)
        return Explanations(evidence, attention_maps, tuple(notices))
    on_grid = checks.flagged_on(flagged.components, prediction.unperturbed.grid)
    left_out = subsets.leave_one_out(
        engine,
        prepared,
        prediction.unperturbed,
        flagged.first_pass_voxels,
        prediction.thresholds[Region.WT],
        [on_grid[Region.TC], on_grid[Region.ET]],
        context=context,
    )
    uncertainty = native_grid.to_native(left_out.uncertainty, prepared, left_out.grid)
    missed = [number for number, found in enumerate(left_out.found, 1) if not found]
    if missed:
        uncertainty[np.isin(flagged.components.components, missed)] = 1.0
        several = f"{len(missed)} candidates" if len(missed) > 1 else "one candidate"
        notices.append(MISSED.format(several))
    evidence = replace(
        evidence,
        scores=score_by_all_views(flagged.scores, left_out.agreement, prediction.scoring),
        dice_without=left_out.dice_without,
        uncertainty=uncertainty,
        missed=frozenset(number - 1 for number in missed),
    )
    return Explanations(evidence, attention_maps, tuple(notices))


def explain_sequences(
    engine: object, analysis: Analysis, threshold: float, *, context: RunContext
) -> Analysis:
    """Add to an analysis what each sequence contributes, for each candidate and at every voxel.

    Parameters
    ----------
    engine : object
        With `predict_subsets`.
    threshold : float
        Probability of whole tumour from which its voxels were outlined.
    """
    prepared, network = analysis.prepared, analysis.network.findings
    flagged = ComponentMask.of(network, prepared.native)
    values, evidence = subsets.by_sequence(engine, prepared, flagged, threshold, context=context)
    relevance = {  # unknown where the quick passes do not find a candidate
        c.tracking_uid: None if c.dice_without is None else v
        for c, v in zip(network.candidates, values, strict=True)
    }

    def with_relevance(findings: Findings) -> Findings:
        candidates = (
            replace(c, sequence_relevance=relevance.get(c.tracking_uid))
            for c in findings.candidates
        )
        return replace(findings, candidates=tuple(candidates))

    volumes = replace(analysis.volumes, evidence=evidence)
    return replace(analysis.with_findings(with_relevance), volumes=volumes)
