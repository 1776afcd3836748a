"""Analyse many studies from Python, like `lesionlens batch`."""

from __future__ import annotations

from pathlib import Path

from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.engines.choice import EngineChoice
from lesionlens.site.cohort.run import Cohort, CohortRun, WorkerOptions, run_cohort
from lesionlens.site.cohort.table import check_tables, write_table
from lesionlens.site.cohort.work import CohortChoice


def batch(
    studies: str | Path,
    out: str | Path,
    *,
    workers: int = 1,
    resume: bool = False,
    device: str = "auto",
    weights: str | None = None,
    context: RunContext = SILENT,
) -> CohortRun:
    """Analyse every study below a folder and write one table of all.

    Parameters
    ----------
    studies : str or Path
        One sub-folder for each study, or a BIDS dataset.
    out : str or Path
        Gets a result folder for each study, `cohort.csv` and `cohort.parquet`.
    workers : int
        Processes; 1 works in this one. A script that requests more must guard its main part by
        ``if __name__ == "__main__":``.
    resume : bool
        Leave out studies that are complete and unchanged.
    device, weights : str
        As `Lens` takes them.
    context : RunContext
        Called at the end of each study; a stop keeps what is complete.

    Raises
    ------
    UnusableInputError
        There is no study, or another batch is at work in the output folder.
    """
    folder = Path(out)
    check_tables(folder)
    done = run_cohort(
        Cohort(Path(studies), folder, resume),
        CohortChoice(EngineChoice(device, weights=weights)),
        WorkerOptions(workers),
        context=context,
    )
    write_table(folder, done.outcomes)
    return done
