"""Metrics of a result's explanations, to be averaged over cases."""

from __future__ import annotations

from lesionlens.analysis.explain import shapley
from lesionlens.base.labels import Region
from lesionlens.base.records.files import CandidateRow, FindingsFile, RunFile

_EQUAL = 1e-6  # scores in findings.json have six digits


def measures(run: RunFile, findings: FindingsFile) -> dict[str, float | None]:
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
    peaks = [c.attention.peak_inside for c in findings.candidates]
    known = [peak for peak in peaks if peak is not None]
    trust = run.attention.trust.get(Region.WT) if run.attention else None
    tops = [top for c in findings.candidates if (top := _top_sequence(c)) is not None]
    named = [hurts for hurts, certain in tops if certain]
    reliable = None if trust is None else trust.reliable
    seconds = {stage.name: stage.seconds for stage in run.stages}
    spent, network = seconds.get("explanations"), seconds.get("network")
    return {
        "candidate_peak": sum(known) / len(known) if known else None,
        "kept": None if trust is None else trust.kept,
        "deletion": None if trust is None else trust.deletion,
        "reliable": None if reliable is None else float(reliable),
        "top_sequence": sum(hurts for hurts, _ in tops) / len(tops) if tops else None,
        "top_named": sum(named) / len(named) if named else None,
        "explaining": spent / network if spent is not None and network else None,
    }


def _top_sequence(row: CandidateRow) -> tuple[bool, bool] | None:
    """Return whether omitting the top sequence lowers the score most, and whether it is named."""
    if row.sequence_relevance is None or row.score_left_out is None:
        return None
    shares = row.sequence_relevance
    left = {k: v for k, v in row.score_left_out.items() if v is not None}
    if len(left) < 2:
        return None
    top = max(left, key=lambda sequence: shares[sequence] or 0.0)
    return left[top] <= min(left.values()) + _EQUAL, shapley.deciding(shares) is not None
