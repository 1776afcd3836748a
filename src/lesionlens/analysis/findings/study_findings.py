"""The findings of a study: candidates, dismissed regions and doubtful parts."""

from __future__ import annotations

from dataclasses import replace

from lesionlens.analysis.findings.candidates import Evidence, considered, describe, without_parts
from lesionlens.analysis.findings.doubtful import Numbers, doubtful_parts
from lesionlens.analysis.findings.find import Flagged
from lesionlens.base.labels import Region
from lesionlens.base.records.files import as_stored
from lesionlens.base.records.findings import Considered, Findings
from lesionlens.base.records.prediction import Prediction
from lesionlens.base.records.study import PreparedStudy


def study_findings(
    prepared: PreparedStudy,
    prediction: Prediction,
    flagged: Flagged,
    evidence: Evidence,
    study_identity: str,
) -> tuple[Findings, Numbers | None]:
    """Measure the flagged components, describe the dismissed ones, and number the doubtful parts.

    Parameters
    ----------
    evidence : Evidence
        Of the flagged components, with the probability of the whole tumour.
    study_identity : str
        From `input_files.identity_of`: identifies the study and its files; with engine and
        position it determines the tracking UIDs.

    Returns
    -------
    findings : Findings
        With `considered` and `doubtful`; figures rounded as in findings.json.
    numbers : (I, J, K) uint16 or None
        Number of the doubtful part at each native voxel; None if there are none.
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
    findings = replace(described, considered=below_threshold)
    if not findings.candidates:
        return as_stored(replace(findings, doubtful=())), None
    uncertainty, by_sequence = evidence.uncertainty, evidence.by_sequence
    if uncertainty is None or by_sequence is None or len(by_sequence.by_voxel.shares) < 2:
        return as_stored(findings), None
    doubtful, numbers = doubtful_parts(
        findings.candidates,
        findings.components,
        uncertainty,
        by_sequence.by_voxel,
        component_mask.grid,
    )
    return as_stored(replace(findings, doubtful=doubtful)), numbers if doubtful else None
