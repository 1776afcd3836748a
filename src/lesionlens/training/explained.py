"""What a result says of its own explanations, as figures that can be averaged over cases."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from lesionlens.base.labels import Region
from lesionlens.records.attention import MapTrust
from lesionlens.records.files import FindingsFile, RunFile


def measures(result: Path, findings: FindingsFile) -> dict[str, float | None]:
    """Read the checks of the whole tumour's map and what explaining cost.

    Parameters
    ----------
    result : Path
        A result folder.
    findings : FindingsFile
        Of this folder.

    Returns
    -------
    dict
        ``candidate_peak``: share of candidates whose map peaks inside; ``deletion``: the score left
        after hiding what is attended, as a share of what is left after hiding as much at random;
        ``deletion_half``: whether that is at most a half; ``reliable``: whether the map passed;
        ``explaining``: seconds of the explanations per second of the network. None where it was not
        measured; empty without a run.json.
    """
    try:
        run = RunFile.model_validate_json((result / "run.json").read_bytes())
    except (OSError, ValidationError):
        return {}
    peaks = [c.attention.peak_inside for c in findings.candidates]
    known = [peak for peak in peaks if peak is not None]
    trust = run.attention.trust.get(Region.WT) if run.attention else None
    left = None if trust is None else _deletion(trust)
    reliable = None if trust is None else trust.reliable
    seconds = {stage.name: stage.seconds for stage in run.stages}
    spent, network = seconds.get("explanations"), seconds.get("network")
    return {
        "candidate_peak": sum(known) / len(known) if known else None,
        "deletion": left,
        "deletion_half": None if left is None else float(left <= 0.5),
        "reliable": None if reliable is None else float(reliable),
        "explaining": spent / network if spent is not None and network else None,
    }


def _deletion(trust: MapTrust) -> float | None:
    if trust.deletion is None or not trust.deletion_random:
        return None
    return trust.deletion / trust.deletion_random
