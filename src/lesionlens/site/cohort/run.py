"""Run a worklist: one after another in this process, in several, or on a dask cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from lesionlens.base.processors import usable_processors
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.imaging.reading.bids import refuse_one_label
from lesionlens.site.cohort.cluster import on_cluster
from lesionlens.site.cohort.processes import in_processes
from lesionlens.site.cohort.studies import StudyJob, find_jobs, fingerprint
from lesionlens.site.cohort.work import Choice, Status, StudyOutcome, analyse, engine_of, load_lens
from lesionlens.site.cohort.worklist import alone_in, open_worklist


@dataclass(frozen=True, slots=True)
class Crew:
    """Who works."""

    workers: int = 1
    """Processes of this machine; 1 works in this one."""
    scheduler: str | None = None
    """Address of a dask scheduler whose workers see the same folders."""


@dataclass(frozen=True, slots=True)
class Cohort:
    """What is worked on."""

    studies: Path
    """One sub-folder a study."""
    out: Path
    """Gets one result folder a study and `worklist.sqlite`."""
    resume: bool = False
    """Leave studies alone that are complete and unchanged."""
    dataset: Path | None = None
    """BIDS derivatives that the results become a part of; `out` lies in it."""


@dataclass(frozen=True, slots=True)
class CohortRun:
    """How a run ended: an outcome for each study, by name, and how many were kept as they were."""

    outcomes: tuple[StudyOutcome, ...]
    kept: int

    @property
    def exit_status(self) -> int:
        """130 when stopped, 1 after a defect or lack, 2 after unusable input alone, else 0."""
        found = {outcome.exit_status for outcome in self.outcomes}
        return next((status for status in (130, 1, 2) if status in found), 0)


def run_cohort(
    cohort: Cohort,
    choice: Choice,
    crew: Crew,
    *,
    context: RunContext = SILENT,
) -> CohortRun:
    """Analyse every study below a folder; each failure is its own.

    Parameters
    ----------
    cohort : Cohort
        Where studies lie and results go.
    choice : Choice
        What analyses.
    crew : Crew
        Who works.
    context : RunContext
        Called at each study's end, polled before and within each; a stop keeps what is complete.

    Raises
    ------
    UnusableInputError
        There is no study, or another batch is at work in the output folder.
    MissingPluginError
        A scheduler was named and dask.distributed is not installed.
    ResourceError
        The scheduler does not answer, or the folder cannot be written.
    """
    jobs = find_jobs(cohort.studies, cohort.out)
    if cohort.dataset is not None:
        refuse_one_label([job.name for job in jobs])
        jobs = tuple(replace(job, dataset=cohort.dataset) for job in jobs)
    here = crew.scheduler is None or cohort.resume
    engine = engine_of(load_lens(choice), choice) if here else ""
    outcomes: dict[str, StudyOutcome] = {}
    with alone_in(cohort.out), open_worklist(cohort.out) as worklist:
        prints = {job.name: fingerprint(job.study) for job in jobs}
        for job in jobs if cohort.resume else ():
            known = worklist.complete(job, prints[job.name], engine)
            if known is not None:
                outcomes[job.name] = known
        kept = len(outcomes)
        todo = [job for job in jobs if job.name not in outcomes]
        for outcome in _outcomes(todo, choice, crew, context):
            outcomes[outcome.name] = outcome
            if outcome.status is not Status.STOPPED:
                worklist.record(outcome, prints[outcome.name])
            context.progress(f"{len(outcomes)} of {len(jobs)} studies", len(outcomes) / len(jobs))
        return CohortRun(tuple(outcomes[job.name] for job in jobs), kept)


def _outcomes(
    jobs: Sequence[StudyJob], choice: Choice, crew: Crew, context: RunContext
) -> Iterator[StudyOutcome]:
    if not jobs:
        return
    if crew.scheduler is None and crew.workers <= 1:
        for number, job in enumerate(jobs):
            done = number / len(jobs)
            yield analyse(
                job, choice, context.part(done, done, f"{number + 1} of {len(jobs)}: {{}}")
            )
        return
    absolute = [_absolute(job) for job in jobs]
    if crew.scheduler is not None:
        yield from on_cluster(absolute, choice, crew.scheduler, context)
        return
    threads = choice.threads or max(1, usable_processors() // crew.workers)
    task = partial(_analyse_alone, choice=replace(choice, threads=threads))
    yield from in_processes(absolute, task, crew.workers, context)


def _analyse_alone(job: StudyJob, context: RunContext, choice: Choice) -> StudyOutcome:
    """Analyse in a worker of this machine."""
    return analyse(job, choice, context)


def _absolute(job: StudyJob) -> StudyJob:
    dataset = None if job.dataset is None else job.dataset.resolve()
    return StudyJob(job.name, job.study.resolve(), job.out.resolve(), dataset)
