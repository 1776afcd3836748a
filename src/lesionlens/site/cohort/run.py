"""Run a batch: sequentially, in several processes, or on a dask cluster."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from lesionlens.base.files import absolute, check_outside, resolved
from lesionlens.base.process import available_threads
from lesionlens.base.run_context import REPORT, SILENT, RunContext
from lesionlens.base.text import counted
from lesionlens.imaging.reading.bids import refuse_equal_subjects
from lesionlens.site.cohort.cluster import on_cluster
from lesionlens.site.cohort.processes import in_processes
from lesionlens.site.cohort.resume import complete, current, locked_folder, store_outcome
from lesionlens.site.cohort.studies import WHOLE, Shard, StudyJob, find_jobs, listed
from lesionlens.site.cohort.table import check_names
from lesionlens.site.cohort.work import CohortChoice, analyse, identity
from lesionlens.site.database.add_studies import extend_in_place
from lesionlens.site.database.records import Status, StudyOutcome
from lesionlens.site.database.study_files import holds_inputs_of
from lesionlens.site.database.worklist_database import WorklistDatabase, open_worklist_database

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Cohort:
    """Input, output and parallelisation of a batch."""

    studies: Path
    """Folder with one sub-folder per study, a BIDS dataset or a CSV table."""
    out: Path
    """Output folder for one result folder per study and `studies.sqlite`."""
    resume: bool = False
    """Skip studies that are complete and unchanged."""
    dataset: Path | None = None
    """BIDS derivatives dataset that contains `out`."""
    shard: Shard = WHOLE
    """Shard of the studies; several may run at a time."""
    workers: int = 1
    """Number of processes; 1 runs in this process."""
    scheduler: str | None = None
    """Address of a dask scheduler whose workers have access to the same folders."""


@dataclass(frozen=True, slots=True)
class CohortRun:
    """Outcome of a batch: one per study, by name, and the number of skipped studies."""

    outcomes: tuple[StudyOutcome, ...]
    n_skipped: int

    @property
    def exit_status(self) -> int:
        """130 if stopped, 1 after a defect or lack of resources, 2 after bad input, else 0."""
        statuses = {outcome.exit_status for outcome in self.outcomes}
        return next((status for status in (130, 1, 2) if status in statuses), 0)


def run_cohort(cohort: Cohort, choice: CohortChoice, *, context: RunContext = SILENT) -> CohortRun:
    """Analyse every study below a folder; failures are independent.

    Parameters
    ----------
    context : RunContext
        Reports each finished study; cancellation keeps finished studies.

    Raises
    ------
    UnusableInputError
        There is no study, one is named like a table of the results, the output folder lies within
        one, or another batch is running in the output folder.
    MissingPluginError
        A scheduler is named and dask.distributed is not installed.
    ResourceError
        The scheduler does not respond, or the folder cannot be written.
    """
    all_jobs = find_jobs(cohort.studies, cohort.out)
    check_names(job.name for job in all_jobs)
    for job in all_jobs:  # a table, or links, may name folders elsewhere
        check_outside(job.study, cohort.out)
    jobs = cohort.shard.part(all_jobs)
    if cohort.dataset is not None:
        refuse_equal_subjects([job.name for job in all_jobs])
        jobs = tuple(replace(job, dataset=cohort.dataset) for job in jobs)
    needs_identity = cohort.scheduler is None or cohort.resume
    engine = identity(choice) if needs_identity else ""
    outcomes: dict[str, StudyOutcome] = {}
    with ExitStack() as stack:
        stack.enter_context(locked_folder(cohort.out, beside_shards=cohort.shard.count > 1))
        database = stack.enter_context(closing(open_worklist_database(cohort.out, readers=False)))
        jobs = tuple(current(database, j, is_new=_is_elsewhere(database, j)) for j in jobs)
        extend_in_place(database, [entry for entry in map(listed, jobs) if entry is not None])
        if cohort.resume:
            outcomes |= _complete(database, jobs, engine)
        kept, start = len(outcomes), time.monotonic()
        pending = {job.name: job for job in jobs if job.name not in outcomes}
        for outcome in _outcomes(tuple(pending.values()), cohort, choice, context):
            outcomes[outcome.name] = outcome
            if outcome.status is not Status.STOPPED:
                store_outcome(database, pending[outcome.name], outcome)
            context.progress(f"{len(outcomes)} of {len(jobs)} studies", len(outcomes) / len(jobs))
            progress = time.monotonic() - start, len(outcomes) - kept, len(jobs) - len(outcomes)
            logger.log(
                REPORT, "%d of %d: %s", len(outcomes), len(jobs), _log_line(outcome, *progress)
            )
        return CohortRun(tuple(outcomes[job.name] for job in jobs), kept)


def _is_elsewhere(database: WorklistDatabase, job: StudyJob) -> bool:
    """Return whether the list has no study of this name, or one in another folder."""
    entry = database.entry(job.name)
    return entry is None or entry.place != str(resolved(job.study))


def _complete(
    database: WorklistDatabase, jobs: Sequence[StudyJob], engine: str
) -> dict[str, StudyOutcome]:
    """Return the studies that need not be analysed again."""
    completed: dict[str, StudyOutcome] = {}
    for job in jobs:
        if _is_elsewhere(database, job) and not holds_inputs_of(job.study, job.out):
            continue
        outcome = complete(database, job, engine)
        if outcome is not None:
            store_outcome(database, job, outcome)
            completed[job.name] = outcome
    return completed


def duration_text(seconds: float) -> str:
    """Return a duration in words.

    Examples
    --------
    >>> duration_text(41.2), duration_text(400), duration_text(7500)
    ('41 s', '7 min', '2 h 05 min')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def _log_line(outcome: StudyOutcome, elapsed_s: float, n_done: int, n_remaining: int) -> str:
    """Return the log line of a completed study, with the estimated remaining time."""
    duration = f"{outcome.seconds:.1f} s"
    if outcome.status is Status.ANALYSED:
        text = f"{outcome.name} analysed in {duration}, {counted(outcome.candidates, 'candidate')}"
    else:
        text = f"{outcome.name} {outcome.status.value} after {duration}: {outcome.message}"
    if n_remaining:
        text += f"; about {duration_text(elapsed_s / n_done * n_remaining)} left"
    return text


def _outcomes(
    jobs: Sequence[StudyJob], cohort: Cohort, choice: CohortChoice, context: RunContext
) -> Iterator[StudyOutcome]:
    if not jobs:
        return
    if cohort.scheduler is None and cohort.workers <= 1:
        for number, job in enumerate(jobs):
            fraction = number / len(jobs)
            yield analyse(
                job, choice, context.part(fraction, fraction, f"{number + 1} of {len(jobs)}: {{}}")
            )
        return
    absolute_jobs = [_absolute(job) for job in jobs]
    if cohort.scheduler is not None:
        remote_choice = _with_absolute_paths(choice)
        yield from on_cluster(absolute_jobs, remote_choice, cohort.scheduler, context)
        return
    threads = choice.engine.threads or max(1, available_threads() // cohort.workers)
    task = partial(
        _analyse_alone, choice=replace(choice, engine=replace(choice.engine, threads=threads))
    )
    yield from in_processes(absolute_jobs, task, cohort.workers, context)


def _analyse_alone(job: StudyJob, context: RunContext, choice: CohortChoice) -> StudyOutcome:
    return analyse(job, choice, context)


def _absolute(job: StudyJob) -> StudyJob:
    dataset = None if job.dataset is None else resolved(job.dataset)
    return replace(job, study=absolute(job.study), out=resolved(job.out), dataset=dataset)


def _with_absolute_paths(choice: CohortChoice) -> CohortChoice:
    """Return a choice for a worker that runs in another folder; names stay names."""
    weights, bundle = choice.engine.weights, choice.engine.bundle
    if weights is not None and Path(weights).is_file():
        from lesionlens.network.weights import weights_path

        is_name = weights_path(weights) != Path(weights)
        weights = weights if is_name else str(absolute(Path(weights)))
    bundle = None if bundle is None else absolute(bundle)
    engine = replace(choice.engine, weights=weights, bundle=bundle)
    return replace(choice, engine=engine)
