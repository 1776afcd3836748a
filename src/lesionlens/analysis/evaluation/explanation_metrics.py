"""Metrics of a result's explanations, to be averaged over cases."""

from __future__ import annotations

from lesionlens.analysis.explain import shapley
from lesionlens.base.labels import Region
from lesionlens.base.records.files import CandidateRow, FindingsFile, RunFile

_TOLERANCE = 1e-6  # scores in findings.json have six digits


def explanation_measures(run: RunFile, findings: FindingsFile) -> dict[str, float | None]:
    """Return the checks of the whole-tumour map and the cost of the explanations.

    Returns
    -------
    dict
        ``candidate_peak``: share of candidates with the map's peak inside; ``kept`` and
        ``deletion``: share of the probability that remains with only the attended voxels, and
        without them; ``reliable``: whether the map passed;
        ``top_sequence``: share of candidates whose score falls most without the sequence that
        contributes most; ``top_named``: the same for candidates with a named deciding sequence;
        ``explaining``: seconds of explanations per second of the network. None if not measured.
    """
    peaks = [p for c in findings.candidates if (p := c.attention.peak_inside) is not None]
    trust = run.attention.trust.get(Region.WT) if run.attention else None
    tops = [top for c in findings.candidates if (top := _top_sequence(c)) is not None]
    named_tops = [lowers_most for lowers_most, is_named in tops if is_named]
    reliable = None if trust is None else trust.reliable
    seconds_by_stage = {stage.name: stage.seconds for stage in run.stages}
    spent_s, network_s = seconds_by_stage.get("explanations"), seconds_by_stage.get("network")
    return {
        "candidate_peak": sum(peaks) / len(peaks) if peaks else None,
        "kept": None if trust is None else trust.kept,
        "deletion": None if trust is None else trust.deletion,
        "reliable": None if reliable is None else float(reliable),
        "top_sequence": sum(lowers_most for lowers_most, _ in tops) / len(tops) if tops else None,
        "top_named": sum(named_tops) / len(named_tops) if named_tops else None,
        "explaining": spent_s / network_s if spent_s is not None and network_s else None,
    }


def _top_sequence(row: CandidateRow) -> tuple[bool, bool] | None:
    """Return whether omitting the top sequence lowers the overlap most, and whether it is named."""
    if row.sequence_relevance is None or row.dice_without is None:
        return None
    relevance = row.sequence_relevance
    dice_without = {k: v for k, v in row.dice_without.items() if v is not None}
    if len(dice_without) < 2:
        return None
    top = max(dice_without, key=lambda sequence: relevance[sequence] or 0.0)
    lowers_most = dice_without[top] <= min(dice_without.values()) + _TOLERANCE
    return lowers_most, shapley.deciding_sequence(relevance) is not None
