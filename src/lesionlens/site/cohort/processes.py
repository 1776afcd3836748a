"""Analyse studies in several processes of this machine, connected by pipes.

A worker process inherits only its two pipes. No port is opened, so that no other account of the
machine can reach the jobs or add to them.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from queue import SimpleQueue
from typing import Any

from lesionlens.base.process import begin_worker, starting_workers
from lesionlens.base.run_context import RunContext
from lesionlens.site.cohort.studies import StudyJob
from lesionlens.site.database.records import Status, StudyOutcome

POLL_S = 0.2
GRACE_S = 120.0
"""Grace period for workers to stop before they are terminated."""
_JOIN_S = 5.0
NOT_STOPPED_IN_TIME = "not analysed: its worker did not stop in time"
_DIED_WHILE_STOPPING = "not analysed: its worker died while the batch was being stopped"
WORKER_DIED = "its worker died, most likely for lack of memory; use fewer --workers"

Task = Callable[[StudyJob, RunContext], StudyOutcome]


def in_processes(
    jobs: Sequence[StudyJob], task: Task, workers: int, context: RunContext
) -> Iterator[StudyOutcome]:
    """Yield the outcome of each study as it completes.

    A study whose worker dies is retried alone after all others, when most memory is free; if that
    fails too, it is recorded as failed.

    Parameters
    ----------
    task : callable
        Analyses one study in a worker; pickled, never raises.
    context : RunContext
        Checked for cancellation: workers stop at their next step, and waiting studies are skipped.
    """
    with closing(_Pool(task, min(workers, len(jobs)), jobs)) as pool:
        yield from pool.outcomes(context)


@dataclass(eq=False)
class _Worker:
    """A worker process with this side's ends of its pipes."""

    process: Any
    jobs: Any
    outcomes: Any
    """Pipe ends; their class differs on Windows."""
    job: StudyJob | None = None

    def end(self) -> None:
        """End the process, at once if it still runs, and close this side's pipes."""
        self.process.kill()
        self.process.join()
        self.process.close()
        self.jobs.close()
        self.outcomes.close()


class _Pool:
    def __init__(self, task: Task, count: int, jobs: Sequence[StudyJob]) -> None:
        self._task, self._count = task, count
        self._waiting, self._retries = deque(jobs), deque[StudyJob]()
        self._died_once: set[str] = set()
        self._workers: list[_Worker] = []

    def outcomes(self, context: RunContext) -> Iterator[StudyOutcome]:
        """Distribute studies and yield outcomes until none is pending."""
        stop_time: float | None = None
        while self._waiting or self._retries or self._busy:
            if stop_time is None and context.cancel.is_set():
                stop_time = time.monotonic()
                yield from self._stop()
            if stop_time is not None and time.monotonic() - stop_time > GRACE_S:
                running = [worker.job for worker in self._busy if worker.job]
                yield from (_stopped_outcome(job, NOT_STOPPED_IN_TIME) for job in running)
                return
            self._assign_jobs()
            ready = wait([worker.outcomes for worker in self._workers], POLL_S)
            for worker in [w for w in self._workers if w.outcomes in ready]:
                yield from self._receive(worker, stopping=stop_time is not None)

    def close(self) -> None:
        """End all processes: by closing their pipes, then by a signal."""
        for worker in self._workers:
            worker.jobs.close()
        deadline = time.monotonic() + _JOIN_S
        for worker in self._workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            worker.end()
        self._workers.clear()

    @property
    def _busy(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.job is not None]

    def _assign_jobs(self) -> None:
        while (job := self._next_job()) is not None:
            idle = next((w for w in self._workers if w.job is None), None)
            worker = idle or self._start()
            worker.job = job
            with suppress(OSError):  # it died meanwhile, which its pipe reports next
                worker.jobs.send(job)

    def _next_job(self) -> StudyJob | None:
        if self._waiting and len(self._busy) < self._count:
            return self._waiting.popleft()
        if self._retries and not self._waiting and not self._busy:
            return self._retries.popleft()
        return None

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        child_jobs, jobs = context.Pipe(duplex=False)
        outcomes, child_outcomes = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(self._task, child_jobs, child_outcomes))
        with starting_workers():
            process.start()
        child_jobs.close()
        child_outcomes.close()
        worker = _Worker(process, jobs, outcomes)
        self._workers.append(worker)
        return worker

    def _stop(self) -> Iterator[StudyOutcome]:
        """Ask the workers to stop; studies not started are skipped."""
        for worker in self._workers:
            with suppress(OSError):
                worker.jobs.send(None)
        unstarted = [*self._waiting, *self._retries]
        self._waiting.clear()
        self._retries.clear()
        yield from (_stopped_outcome(job, "not started") for job in unstarted)

    def _receive(self, worker: _Worker, *, stopping: bool) -> Iterator[StudyOutcome]:
        job = worker.job
        try:
            outcome = worker.outcomes.recv()
        except (EOFError, OSError):
            self._workers.remove(worker)
            worker.end()
            if job is None:
                return
            if stopping:
                yield _stopped_outcome(job, _DIED_WHILE_STOPPING)
            elif job.name in self._died_once:
                yield StudyOutcome(job.name, Status.FAILED, 1, WORKER_DIED)
            else:
                self._died_once.add(job.name)
                self._retries.append(job)
            return
        worker.job = None
        yield outcome


def _stopped_outcome(job: StudyJob, message: str) -> StudyOutcome:
    return StudyOutcome(job.name, Status.STOPPED, 130, message)


def _work(task: Task, jobs: Connection, outcomes: Connection) -> None:
    """Analyse studies in a worker process until the pipe closes.

    An interrupt reaches the parent, which asks this process to stop at its next step. If the parent
    is gone, the closed pipe ends the current study.
    """
    begin_worker()
    stop = threading.Event()
    queued: SimpleQueue[StudyJob | None] = SimpleQueue()

    def listen() -> None:
        while True:
            try:
                job = jobs.recv()
            except (EOFError, OSError):
                stop.set()
                queued.put(None)
                return
            if job is None:
                stop.set()
            else:
                queued.put(job)

    threading.Thread(target=listen, name="jobs", daemon=True).start()
    while (job := queued.get()) is not None:
        try:
            outcomes.send(task(job, RunContext(cancel=stop)))
        except BrokenPipeError:  # the parent no longer waits for the result
            break
    os._exit(0)  # threads of libraries must not keep the process alive
