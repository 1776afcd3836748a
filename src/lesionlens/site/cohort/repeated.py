"""Studies of a cohort that hold the same scan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lesionlens.base.text import first_few
from lesionlens.site.database.records import Status, StudyOutcome
from lesionlens.site.database.study_files import analysed_files


def repeated_scans(out: Path, outcomes: Sequence[StudyOutcome]) -> tuple[str, ...]:
    """Return a note that names the studies with a file of an earlier one.

    Parameters
    ----------
    out : Path
        Folder of the cohort. Results are compared by the files that they were made of.
    outcomes : sequence of StudyOutcome
        Outcomes of its studies, in row order.
    """
    owners: dict[str, str] = {}
    found = []
    for outcome in outcomes:
        if outcome.status is not Status.ANALYSED:
            continue
        files = analysed_files(out / outcome.name)
        other = next((owners[one] for one in sorted(files) if one in owners), None)
        if other is not None:
            found.append(f"{outcome.name} and {other}")
        owners |= dict.fromkeys(files - owners.keys(), outcome.name)
    named = first_few(found, 5, "; ")
    return (f"The same scan is in two studies, and both are counted: {named}",) if found else ()
