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
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from queue import SimpleQueue
from typing import Any

from lesionlens.base.process.worker_processes import interrupts_blocked, leave_interrupts_to_parent
from lesionlens.base.run_context import RunContext
from lesionlens.site.cohort.studies import StudyJob
from lesionlens.site.database.records import Status, StudyOutcome

POLL_S = 0.2
GRACE_S = 120.0
"""Grace period for workers to stop before they are terminated."""
_END_S = 5.0
LEFT = "not analysed: its worker did not stop in time"
DIED = "its worker died, most likely for lack of memory; use fewer --workers"

Task = Callable[[StudyJob, RunContext], StudyOutcome]


def in_processes(
    jobs: Sequence[StudyJob],
    task: Task,
    workers: int,
    context: RunContext,
    grace_s: float = GRACE_S,
) -> Iterator[StudyOutcome]:
    """Yield the outcome of each study as it completes.

    A study whose worker dies is retried alone after all others, when most memory is free; if that
    fails too, it is recorded as failed.

    Parameters
    ----------
    jobs : sequence of StudyJob
        Studies to analyse.
    task : callable
        Analyses one study in a worker; pickled, never raises.
    context : RunContext
        Checked for cancellation: workers stop at their next step, and waiting studies are skipped.
    grace_s : float
        Time for workers to stop, seconds.
    """
    pool = _Pool(task, min(workers, len(jobs)), jobs)
    try:
        yield from pool.outcomes(context, grace_s)
    finally:
        pool.end()


@dataclass(eq=False)
class _Worker:
    """A worker process with this side's ends of its pipes."""

    process: Any
    jobs: Any
    outcomes: Any
    """Pipe ends; their class differs on Windows."""
    job: StudyJob | None = None


class _Pool:
    def __init__(self, task: Task, count: int, jobs: Sequence[StudyJob]) -> None:
        self._task, self._count = task, count
        self._waiting, self._again = deque(jobs), deque[StudyJob]()
        self._died: set[str] = set()
        self._workers: list[_Worker] = []

    def outcomes(self, context: RunContext, grace_s: float) -> Iterator[StudyOutcome]:
        """Distribute studies and yield outcomes until none is pending."""
        stopped: float | None = None
        while self._waiting or self._again or self._busy:
            if stopped is None and context.cancel.is_set():
                stopped = time.monotonic()
                yield from self._stop()
            if stopped is not None and time.monotonic() - stopped > grace_s:
                yield from (_stopped(worker.job, LEFT) for worker in self._busy if worker.job)
                return
            self._hand_out()
            ready = wait([worker.outcomes for worker in self._workers], POLL_S)
            for worker in [one for one in self._workers if one.outcomes in ready]:
                yield from self._take(worker, stopped is not None)

    def end(self) -> None:
        """End all processes: by closing their pipes, then by a signal."""
        for worker in self._workers:
            worker.jobs.close()
        end = time.monotonic() + _END_S
        for worker in self._workers:
            worker.process.join(max(0.0, end - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.outcomes.close()
            worker.process.close()
        self._workers.clear()

    @property
    def _busy(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.job is not None]

    def _hand_out(self) -> None:
        while (job := self._next()) is not None:
            idle = next((one for one in self._workers if one.job is None), None)
            worker = idle or self._start()
            worker.job = job
            with suppress(OSError):  # it died meanwhile, which its pipe reports next
                worker.jobs.send(job)

    def _next(self) -> StudyJob | None:
        if self._waiting and len(self._busy) < self._count:
            return self._waiting.popleft()
        if self._again and not self._waiting and not self._busy:
            return self._again.popleft()
        return None

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        theirs_in, ours_out = context.Pipe(duplex=False)
        ours_in, theirs_out = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(self._task, theirs_in, theirs_out))
        with interrupts_blocked():
            process.start()
        theirs_in.close()
        theirs_out.close()
        worker = _Worker(process, ours_out, ours_in)
        self._workers.append(worker)
        return worker

    def _stop(self) -> Iterator[StudyOutcome]:
        """Ask the workers to stop; studies not started are skipped."""
        for worker in self._workers:
            with suppress(OSError):
                worker.jobs.send(None)
        left = [*self._waiting, *self._again]
        self._waiting.clear()
        self._again.clear()
        yield from (_stopped(job, "not started") for job in left)

    def _take(self, worker: _Worker, stopping: bool) -> Iterator[StudyOutcome]:
        job = worker.job
        try:
            outcome = worker.outcomes.recv()
        except (EOFError, OSError):
            self._discard(worker)
            if job is None:
                return
            if stopping:
                yield _stopped(job, LEFT)
            elif job.name in self._died:
                yield StudyOutcome(job.name, Status.FAILED, 1, DIED)
            else:
                self._died.add(job.name)
                self._again.append(job)
            return
        worker.job = None
        yield outcome

    def _discard(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.jobs.close()
        worker.outcomes.close()
        worker.process.kill()
        worker.process.join()
        worker.process.close()


def _stopped(job: StudyJob, words: str) -> StudyOutcome:
    return StudyOutcome(job.name, Status.STOPPED, 130, words)


def _work(task: Task, jobs: Connection, outcomes: Connection) -> None:
    """Analyse studies in a worker process until the pipe closes.

    An interrupt reaches the parent, which asks this process to stop at its next step. If the parent
    is gone, the closed pipe ends the current study.
    """
    leave_interrupts_to_parent()
    stop = threading.Event()
    todo: SimpleQueue[StudyJob | None] = SimpleQueue()

    def listen() -> None:
        while True:
            try:
                job = jobs.recv()
            except (EOFError, OSError):
                stop.set()
                todo.put(None)
                return
            if job is None:
                stop.set()
            else:
                todo.put(job)

    threading.Thread(target=listen, name="jobs", daemon=True).start()
    while (job := todo.get()) is not None:
        try:
            outcomes.send(task(job, RunContext(cancel=stop)))
        except BrokenPipeError:  # the parent no longer waits for the result
            break
    os._exit(0)  # threads of libraries must not keep the process alive
