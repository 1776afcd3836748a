"""The findings of a study: candidates and dismissed regions."""

from __future__ import annotations

from dataclasses import replace

from lesionlens.analysis.findings.candidates import Evidence, considered, describe, without_parts
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
