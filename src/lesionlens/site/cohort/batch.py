"""Analyse many studies from Python, like `lesionlens batch`."""

from __future__ import annotations

from pathlib import Path

from lesionlens.base.arguments import path_of
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.files import check_outside
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.engines import EngineChoice
from lesionlens.site.cohort.run import Cohort, CohortRun, run_cohort
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
    """Analyse every study below a folder and write one table of all results.

    Parameters
    ----------
    studies : str or Path
        Folder with one sub-folder per study, a BIDS dataset, or a CSV table with a column `study`.
    out : str or Path
        Output folder for one result folder per study and `cohort.csv`.
    workers : int
        Number of processes; 1 runs in this process.
    resume : bool
        Skip studies that are complete and unchanged.
    device, weights : str
        As for `Lens`.
    context : RunContext
        Reports each finished study; cancellation keeps finished studies.

    Raises
    ------
    UnusableInputError
        There is no study, another batch is running in the output folder, or that is within the
        studies.
    """
    if workers < 1:
        raise UnusableInputError(
            found=f"{workers} as a number of workers",
            expected="1 or more",
            next_step="Name how many processes to use, such as workers=2",
        )
    weights_name = None if weights is None else str(path_of(weights, "weights: a file or a name"))
    folder = path_of(out, "the folder for the results")
    cohort = Cohort(path_of(studies, "the folder of the studies"), folder, resume, workers=workers)
    check_outside(cohort.studies, folder)
    check_tables(folder)
    choice = CohortChoice(EngineChoice(device, weights=weights_name))
    run = run_cohort(cohort, choice, context=context)
    write_table(folder, run.outcomes)
    return run
