"""Analyse a study and list what was flagged.

python examples/analyse_a_study.py sample_data/study
"""

from __future__ import annotations

import sys

from lesionlens import Lens, RunContext, open_study


def report(stage: str, fraction: float) -> None:
    """Print each stage as it begins, apart from the result."""
    if fraction == 0:
        print(stage, file=sys.stderr)


def main(path: str) -> None:
    """Print every candidate and how much each sequence mattered to it."""
    result = Lens()(open_study(path), context=RunContext(progress=report))
    for candidate in result.candidates:
        print(f"{candidate.id}. {candidate.location.text}, score {candidate.score:.2f}")
        for sequence, value in (candidate.sequence_relevance or {}).items():
            if value is not None:
                print(f"   {sequence:>6} {value:+.2f}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "sample_data/study")
