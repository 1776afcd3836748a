"""Detect the components of a prediction, score and measure them; outline the resection cavity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress

from lesionlens.analysis import native_grid
from lesionlens.analysis.findings.candidates import Evidence, considered, describe, without_parts
from lesionlens.analysis.findings.component_scores import ComponentVoxels, score_components
from lesionlens.analysis.findings.components import (
    CandidateCriteria,
    ComponentMask,
    relabelled_ml,
    segment_components,
    without_specks,
)
from lesionlens.base.geometry import Floats
from lesionlens.base.grid import Grid
from lesionlens.base.labels import Region
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.files import as_stored
from lesionlens.base.records.findings import Considered, Findings
from lesionlens.base.records.prediction import PerturbedPrediction, Prediction, Scoring
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.text import millilitres


@dataclass(frozen=True, slots=True, eq=False)
class Flagged:
    """The flagged components of a prediction, and the dismissed ones."""

    components: ComponentMask
    scores: Sequence[float] = ()
    """Score of each component of `components`, 0 to 1, from the first pass; empty without one."""
    first_pass_voxels: Sequence[ComponentVoxels] = ()
    """Each component on the first pass's grid; empty without one."""
    dismissed: ComponentMask | None = None
    """Components below the score threshold; None without a first pass."""
    dismissed_scores: Sequence[float] = ()
    """Score of each component of `dismissed`."""
    notices: tuple[str, ...] = ()


def find(
    prediction: Prediction,
    probability: Mapping[Region, Floats],
    grid: Grid,
    cavity: Volume | None = None,
) -> Flagged:
    """Segment components on the native grid, and keep those above the score threshold.

    Parameters
    ----------
    prediction : Prediction
        The prediction, with thresholds and the first pass for scoring.
    probability : mapping of Region to (I, J, K) float32
        0 to 1 on `grid`.
    grid : Grid
        Native.
    cavity : Volume of bool or None
        Resection cavity, which is not part of any component.
    """
    criteria = CandidateCriteria(
        prediction.thresholds, slight_enhancement=prediction.slight_enhancement
    )
    cavity_mask = None if cavity is None else cavity.data
    components = segment_components(probability, grid, criteria, cavity_mask)
    first_pass = prediction.unperturbed
    flagged = (
        Flagged(components)
        if first_pass is None
        else split_by_score(components, first_pass, prediction.scoring)
    )
    enhancing = probability.get(Region.ET)
    volume_ml = 0.0 if enhancing is None else relabelled_ml(flagged.components, enhancing, criteria)
    if not volume_ml:
        return flagged
    notice = (
        f"{millilitres(volume_ml)} ml of the tumour core may enhance, but too uncertainly to be "
        "outlined: check T1c and the probability of enhancing tumour"
    )
    return replace(flagged, notices=(notice,))


def split_by_score(
    components: ComponentMask, first_pass: PerturbedPrediction, scoring: Scoring
) -> Flagged:
    """Split components by whether their first-pass score reaches the threshold."""
    first_pass_voxels = components.voxels_on(first_pass.grid)
    scores = score_components(first_pass, first_pass_voxels, scoring)[0]
    is_flagged = scores >= scoring.floor
    return Flagged(
        components=components.keep(is_flagged.tolist()),
        scores=scores[is_flagged].tolist(),
        first_pass_voxels=list(compress(first_pass_voxels, is_flagged)),
        dismissed=components.keep((~is_flagged).tolist()),
        dismissed_scores=scores[~is_flagged].tolist(),
    )


def find_cavity(
    prediction: Prediction, probability: Mapping[Region, Floats], prepared: PreparedStudy
) -> Volume | None:
    """Outline the cavity where its probability is at least one half and exceeds the tumour's.

    Parameters
    ----------
    prediction : Prediction
        On the working grid.
    probability : mapping of Region to (I, J, K) float32
        On the native grid.

    Returns
    -------
    Volume of bool or None
        On the native grid, parts of at least the volume of a candidate's; None if the engine
        outlines no cavity.
    """
    if prediction.cavity is None:
        return None
    cavity_probability = native_grid.to_native(prediction.cavity, prepared)
    inside = (cavity_probability >= 0.5) & (cavity_probability > probability[Region.WT])
    smallest = CandidateCriteria().smallest_vox(prepared.native)
    return Volume(without_specks(inside, smallest), prepared.native)


def study_findings(
    prepared: PreparedStudy,
    prediction: Prediction,
    flagged: Flagged,
    evidence: Evidence,
    study_identity: str,
) -> Findings:
    """Measure the flagged components, and describe the dismissed ones.

    Parameters
    ----------
    evidence : Evidence
        Of the flagged components, with the probability of the whole tumour.
    study_identity : str
        From `input_files.identity_of`: identifies the study and its files; with engine and
        position it determines the tracking UIDs.

    Returns
    -------
    Findings
        With `considered`; figures rounded as in findings.json.
    """
    engine, component_mask = prediction.engine, flagged.components
    dismissed, scores = flagged.dismissed, flagged.dismissed_scores
    below_threshold: tuple[Considered, ...] = ()
    if dismissed is not None:
        whole_tumour = evidence.probability[Region.WT]
        below_threshold = considered(dismissed, scores, prepared, whole_tumour)
    identity = f"{study_identity}|{engine.name}|{engine.weights_sha256}"
    described = describe(component_mask, evidence, prepared, identity)
    unsegmented = frozenset(prediction.unsegmented)
    described = without_parts(
        described, dict.fromkeys((c.id for c in described.candidates), unsegmented)
    )
    return as_stored(replace(described, considered=below_threshold))
