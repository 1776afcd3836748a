"""Run a worklist: one after another in this process, or on dask.distributed."""

from __future__ import annotations

import os
import signal
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lesionlens.base.errors import MissingPluginError, ResourceError
from lesionlens.base.stages import NEVER, Cancel, Progress, no_progress
from lesionlens.imaging.reading.bids import refuse_one_label
from lesionlens.site.cohort.studies import StudyJob, find_jobs, fingerprint
from lesionlens.site.cohort.work import Choice, Status, StudyOutcome, analyse, engine_of, load_lens
from lesionlens.site.cohort.worklist import alone_in, open_worklist

_POLL_S = 0.2
_ASK_S = 1.0
_CONNECT_S = 20
_GRACE_S = 120.0  # how long workers have to stop at a next step
_LEFT = "left behind: its worker did not stop in time"
_ENDED = ("finished", "error", "cancelled")
"""Of dask's states: an outcome that went with its worker is "lost", and made anew elsewhere."""
_LOST = "left: the dask scheduler no longer answers; start it again, then go on with --resume"
_DIED = "its worker died, most likely for lack of memory; give fewer --workers"


@dataclass(frozen=True, slots=True)
class Crew:
    """Who works."""

    workers: int = 1
    """Processes of a local cluster; 1 works in this process."""
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


def has_distributed() -> bool:
    """Whether dask.distributed is installed."""
    return find_spec("distributed") is not None


def run_cohort(
    cohort: Cohort,
    choice: Choice,
    crew: Crew,
    *,
    progress: Progress = no_progress,
    cancel: Cancel = NEVER,
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
    progress, cancel
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
        for outcome in _outcomes(todo, choice, crew, progress, cancel):
            outcomes[outcome.name] = outcome
            if outcome.status is not Status.STOPPED:
                worklist.record(outcome, prints[outcome.name])
            progress(f"{len(outcomes)} of {len(jobs)} studies", len(outcomes) / len(jobs))
        return CohortRun(tuple(outcomes[job.name] for job in jobs), kept)


def _outcomes(
    jobs: Sequence[StudyJob], choice: Choice, crew: Crew, progress: Progress, cancel: Cancel
) -> Iterator[StudyOutcome]:
    if not jobs:
        return
    if crew.scheduler is None and crew.workers <= 1:
        for number, job in enumerate(jobs):
            yield analyse(job, choice, cancel, _within(progress, number, len(jobs)))
        return
    if not has_distributed():
        raise MissingPluginError(
            found="no dask.distributed",
            expected="it, to work on several processes or machines",
            next_step='Install it: pip install "lesionlens[cohort]"; or leave --scheduler out',
        )
    yield from _on_cluster(jobs, choice, crew, cancel)


def _within(progress: Progress, number: int, count: int) -> Progress:
    """Report a study's stages as those of one of many."""

    def report(stage: str, fraction: float) -> None:
        del fraction
        progress(f"{number + 1} of {count}: {stage}", number / count)

    return report


def _on_cluster(
    jobs: Sequence[StudyJob], choice: Choice, crew: Crew, cancel: Cancel
) -> Iterator[StudyOutcome]:
    """Hand every study to the cluster; a scheduler that is gone is an error that says so."""
    from distributed.comm import CommClosedError  # noqa: PLC0415  (an extra)

    try:
        yield from _handed_out(jobs, choice, crew, cancel)
    except CommClosedError as error:
        raise ResourceError(
            found="a dask scheduler that no longer answers",
            expected="one that runs until the last study is analysed",
            next_step="Start it again, then give the same command with --resume: "
            "what is complete is kept",
        ) from error


def _handed_out(
    jobs: Sequence[StudyJob], choice: Choice, crew: Crew, cancel: Cancel
) -> Iterator[StudyOutcome]:
    """Hand every study to the cluster and yield what comes back, until nothing is under way."""
    import distributed  # noqa: PLC0415  (an extra)

    if crew.scheduler is None:
        cores = os.cpu_count() or 1
        threads = max(1, cores // crew.workers)
        choice = replace(choice, threads=threads)
    with _client(crew) as client:
        stop = distributed.Event(f"lesionlens-stop-{uuid.uuid4().hex}", client=client)
        absolute = [_absolute(job) for job in jobs]
        waiting = {
            client.submit(_analyse_there, job, choice, stop.name, pure=False): job
            for job in absolute
        }
        cancelled: float | None = None
        while waiting:
            if cancelled is None and cancel.is_set():
                stop.set()
                cancelled = time.monotonic()
            if cancelled is not None and time.monotonic() - cancelled > _GRACE_S:
                yield from (
                    StudyOutcome(j.name, Status.STOPPED, 130, _LEFT) for j in waiting.values()
                )
                return
            for future in [f for f in waiting if f.done() and f.status in _ENDED]:
                job = waiting.pop(future)
                yield future.result() if future.status == "finished" else _unanswered(job, future)
            time.sleep(_POLL_S)


def _absolute(job: StudyJob) -> StudyJob:
    dataset = None if job.dataset is None else job.dataset.resolve()
    return StudyJob(job.name, job.study.resolve(), job.out.resolve(), dataset)


def _unanswered(job: StudyJob, future: Any) -> StudyOutcome:
    """Distinguish a study whose worker died (an error of dask) from one that was given up."""
    if future.status == "error":
        return StudyOutcome(job.name, Status.FAILED, 1, _DIED)
    return StudyOutcome(job.name, Status.STOPPED, 1, _LOST)


def _client(crew: Crew) -> Any:
    """Return a client of the scheduler, or of a cluster of our own that ends with it."""
    import dask  # noqa: PLC0415  (an extra)
    import distributed  # noqa: PLC0415

    dask.config.set(
        {
            "distributed.scheduler.allowed-failures": 1,
            # a machine that is busy with other work answers late, and is not gone
            "distributed.comm.timeouts.connect": "120s",
            "distributed.comm.timeouts.tcp": "300s",
        }
    )
    if crew.scheduler is None:
        with _deaf_to_interrupts():
            return distributed.Client(
                n_workers=crew.workers, threads_per_worker=1, dashboard_address=None
            )
    try:
        return distributed.Client(crew.scheduler, timeout=_CONNECT_S)
    except (OSError, TimeoutError, ValueError) as error:
        raise ResourceError(
            found=f"no dask scheduler that answers at {crew.scheduler}",
            expected="one, started with `dask scheduler`, with workers that see both folders",
            next_step="Check the address, or leave --scheduler out to work on this machine",
        ) from error


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Start processes that Ctrl-C does not reach: a terminal sends it to all of them.

    They inherit that it is ignored; this process hears it again when the block is over, and asks
    them to stop at the next step.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class _StopThere:
    """Asks the scheduler now and then whether the user wants to stop."""

    def __init__(self, name: str) -> None:
        import distributed  # noqa: PLC0415  (an extra)

        self._event = distributed.Event(name)
        self._asked, self._set = 0.0, False

    def is_set(self) -> bool:
        """Whether to stop now."""
        if not self._set and time.monotonic() - self._asked > _ASK_S:
            self._set, self._asked = bool(self._event.is_set()), time.monotonic()
        return self._set


def _analyse_there(job: StudyJob, choice: Choice, stop: str) -> StudyOutcome:
    """Analyse in a worker of the cluster."""
    return analyse(job, choice, _StopThere(stop))
