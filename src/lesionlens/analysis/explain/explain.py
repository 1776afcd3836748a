"""Explanations of the flagged components: attention maps and perturbations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from lesionlens.analysis.explain import faithfulness, maps, perturbations
from lesionlens.analysis.explain.perturbation_runner import PerturbationRunner, perturbation_runner
from lesionlens.analysis.findings.candidates import Evidence
from lesionlens.analysis.findings.component_scores import score_by_all_views
from lesionlens.analysis.findings.components import ComponentMask, plain_scores
from lesionlens.analysis.findings.find import Flagged
from lesionlens.base.geometry import Floats
from lesionlens.base.labels import Region
from lesionlens.base.records.attention import AttentionMaps, MapChecks
from lesionlens.base.records.prediction import Prediction, QuestionTime
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import RunContext
from lesionlens.engines import native_grid


@dataclass(frozen=True, slots=True, eq=False)
class Explanations:
    """Explanations of the flagged components."""

    evidence: Evidence
    """Evidence of each component."""
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
    """Compute sequence contributions and uncertainty, and check the attention maps.

    Parameters
    ----------
    engine : object
        The engine; perturbed predictions are made if it has `predict_subsets`.
    probability : mapping of Region to (I, J, K) float32
        On the native grid.
    """
    runner = perturbation_runner(engine, prepared, prediction, context)
    trace = prediction.trace
    attention_maps = None if trace is None else maps.draw(trace, prepared.brain)
    regions = attention_maps.maps if attention_maps else {}
    attention = native_grid.resample_regions(regions, prepared, nested=False)
    if runner is None:
        evidence = _evidence_of_prediction(prepared, prediction, flagged, probability)
    else:
        evidence = _evidence_of_perturbations(runner, prediction, flagged)
    if attention_maps is not None:
        checks = check_maps(prepared, prediction, flagged.components, attention, runner)
        attention_maps = replace(attention_maps, checks=checks)
    evidence = replace(
        evidence,
        attention=attention,
        probability=probability,
        class_probabilities=prediction.class_probabilities,
    )
    return Explanations(evidence, attention_maps, _notices(prediction, runner))


def _evidence_of_prediction(
    prepared: PreparedStudy,
    prediction: Prediction,
    flagged: Flagged,
    probability: Mapping[Region, Floats],
) -> Evidence:
    """Return scores and uncertainty without perturbed predictions."""
    uncertainty = prediction.uncertainty
    if uncertainty is not None:
        uncertainty = native_grid.resample_map(uncertainty, prepared)
    scores = plain_scores(flagged.components, prediction, probability)
    return Evidence(scores=scores, uncertainty=uncertainty)


def _evidence_of_perturbations(
    runner: PerturbationRunner, prediction: Prediction, flagged: Flagged
) -> Evidence:
    """Return scores, sequence contributions and uncertainty from perturbed predictions."""
    suffice = perturbations.quick_passes_suffice(runner, prediction, flagged.components)
    fine_components = None if suffice else flagged.components
    results = perturbations.predict_subsets(
        runner, prediction, flagged.first_pass_voxels, fine_components
    )
    uncertainty, estimate = None, results.uncertainty
    if estimate is not None:
        uncertainty = native_grid.resample_map(estimate.data, runner.prepared, estimate.grid)
    scores = score_by_all_views(flagged.scores, results.leave_one_out, prediction.scoring)
    return Evidence(scores=scores, by_sequence=results.by_sequence, uncertainty=uncertainty)


def _notices(prediction: Prediction, runner: PerturbationRunner | None) -> tuple[str, ...]:
    """Return which explanations the engine does not provide, or had no time for."""
    notices = []
    if prediction.trace is None:
        notices.append("This engine provides no attention maps")
    if runner is None:
        notices.append("This engine cannot compute the contribution of each sequence")
        if prediction.uncertainty is None:
            notices.append("This engine estimates no uncertainty")
    elif runner.skipped:
        notices.append(QuestionTime.left_out(runner.skipped))
    return tuple(notices)


def check_maps(
    prepared: PreparedStudy,
    prediction: Prediction,
    component_mask: ComponentMask,
    attention: Mapping[Region, Floats],
    runner: PerturbationRunner | None,
) -> dict[Region, MapChecks]:
    """Check each map's position, and whether the prediction depends on the attended voxels.

    Parameters
    ----------
    prediction : Prediction
        The prediction with the trace of the maps.
    attention : mapping of Region to (I, J, K) float32
        The maps, on the native grid.
    runner : PerturbationRunner or None
        Perturbed predictions; None if not supported: only the position is checked.
    """
    brain_ml = prepared.working.volume_ml(prepared.brain)
    checks = faithfulness.pointing_by_region(
        attention, component_mask.labels, brain_ml / prepared.native.voxel_ml
    )
    first_pass, trace = prediction.unperturbed, prediction.trace
    if first_pass is None or trace is None or runner is None or not component_mask.count:
        return checks
    brain_values = prepared.brain.astype(np.float32)
    brain = faithfulness.resampled(brain_values, prepared.working, first_pass.grid) > 0
    tested_maps = {}
    for region, weights in trace.cross.items():
        tested_maps[region] = faithfulness.TestedMap(
            faithfulness.resampled(weights, prepared.working, first_pass.grid),
            perturbations.flagged_on(component_mask, region, first_pass.grid),
            trace.spacing_mm / float(first_pass.grid.spacing_mm[0]),
        )
    return faithfulness.insertion_test(checks, runner, tested_maps, brain)
