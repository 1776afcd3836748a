"""Limitations of a result, and marks for candidates that were not accepted, for all exporters."""

from __future__ import annotations

from lesionlens.base.labels import MrSequence, ReviewState
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.findings import Candidate
from lesionlens.base.text import counted

NOT_ACCEPTED = frozenset({ReviewState.REJECTED, ReviewState.DEFERRED})
"""States of candidates that a reader did not accept; names of such candidates are marked."""


def limits(analysis: Analysis) -> tuple[str, ...]:
    """Return the limitations in sentences: failed checks of the input, and all warnings."""
    failed_checks = (check.message for check in analysis.findings.quality if not check.passed)
    return tuple(dict.fromkeys((*failed_checks, *analysis.warnings)))


def brief_limitations(analysis: Analysis) -> str:
    """Return the limitations in a few words; empty if there are none.

    The sequences that are missing, and how many other checks of the input failed.
    """
    present = analysis.prepared.sequences
    absent = [s.display_name for s in MrSequence if s not in present]
    failed_checks = [q for q in analysis.findings.quality if not q.passed and q.check != "missing"]
    parts = [f"without {', '.join(absent)}"] if absent else []
    if failed_checks:
        parts.append(f"{counted(len(failed_checks), 'check')} failed")
    return "; ".join(parts)


def part_name(analysis: Analysis, candidate: Candidate, part: str) -> str:
    """Return the name of a candidate's part, marked if a reader rejected or deferred it."""
    return f"{candidate.id} {part}{_mark(analysis, candidate)}"


def _mark(analysis: Analysis, candidate: Candidate) -> str:
    state = analysis.review.state_of(candidate.tracking_uid)
    return f" ({state.value})" if state in NOT_ACCEPTED else ""
