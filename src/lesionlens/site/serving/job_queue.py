"""Fair job queue of one device: sessions are served in rotation."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from lesionlens.base.errors import (
    CancelledError,
    LesionLensError,
    PluginError,
    ResourceError,
    ServerError,
    is_out_of_memory,
)
from lesionlens.base.run_context import RunContext
from lesionlens.site.serving.error_responses import system_error

logger = logging.getLogger(__name__)
WAITING = "waiting for a turn"
_JOIN_S = 30.0
"""Maximum waiting time for a cancelled job; networks check for it after every layer."""


@dataclass(eq=False)
class Job:
    """One request with its response; filled when it is executed."""

    work: Callable[[Job], bytes]
    """Executes the job and returns the response."""
    request_bytes: int = 0
    """The request, kept until it is executed."""
    cancel: threading.Event = field(default_factory=threading.Event)
    stage: str = WAITING
    fraction: float = 0.0
    response: bytes | None = None
    error: LesionLensError | None = None
    version: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def context(self) -> RunContext:
        """Progress and cancellation of the work."""
        return RunContext(self.report, self.cancel)

    @property
    def held_bytes(self) -> int:
        """Memory held by the job."""
        return self.request_bytes if not self.done else len(self.response or b"")

    @property
    def done(self) -> bool:
        """Whether there is a response or an error."""
        return self.response is not None or self.error is not None

    def report(self, stage: str, fraction: float) -> None:
        """Record progress."""
        with self._lock:
            self.stage, self.fraction = stage, min(max(float(fraction), 0.0), 1.0)
            self.version += 1

    def finish(self, response: bytes | None, error: LesionLensError | None) -> None:
        """Record the outcome."""
        with self._lock:
            self.response, self.error = response, error
            self.work = lambda _: b""  # releases request and study
            self.version += 1


class JobQueue:
    """One worker thread; waiting sessions take turns, one job each."""

    def __init__(self) -> None:
        self._queues: OrderedDict[Hashable, deque[Job]] = OrderedDict()
        self._changed = threading.Condition()
        self._ended = False
        self._running: Job | None = None
        self._thread = threading.Thread(target=self._serve, name="lesionlens-queue", daemon=True)
        self._thread.start()

    def add(self, session_key: Hashable, job: Job) -> None:
        """Queue a job of a session."""
        with self._changed:
            self._queues.setdefault(session_key, deque()).append(job)
            self._report_positions()
            self._changed.notify()

    def drop(self, job: Job) -> None:
        """Cancel a job: a waiting one is not started, a running one ends soon."""
        job.cancel.set()
        with self._changed:
            for session_key, queue in [*self._queues.items()]:
                if job in queue:
                    queue.remove(job)
                    job.finish(None, CancelledError())
                if not queue:
                    del self._queues[session_key]
            self._report_positions()

    @property
    def waiting(self) -> int:
        """Number of waiting jobs."""
        with self._changed:
            return sum(len(queue) for queue in self._queues.values())

    def end(self) -> None:
        """Cancel everything, and wait until the worker has ended.

        A network that still computes while Python ends crashes the process.
        """
        with self._changed:
            self._ended = True
            jobs = [job for queue in self._queues.values() for job in queue]
            if self._running is not None:
                jobs.append(self._running)
            self._changed.notify()
        for job in jobs:
            self.drop(job)
        self._thread.join(_JOIN_S)

    def _next_job(self) -> Job | None:
        with self._changed:
            self._changed.wait_for(lambda: self._ended or bool(self._queues))
            if self._ended:
                return None
            session_key, queue = next(iter(self._queues.items()))
            job = queue.popleft()
            self._queues.move_to_end(session_key)
            if not queue:
                del self._queues[session_key]
            self._report_positions()
            self._running = job
            return job

    def _report_positions(self) -> None:
        for position, queue in enumerate(self._queues.values(), 1):
            for index, job in enumerate(queue):
                n_ahead = position + index * len(self._queues)
                job.report(f"{WAITING}: {n_ahead} ahead of it", 0.0)

    def _serve(self) -> None:
        while True:
            job = self._next_job()
            if job is None:
                return
            run(job)
            self._running = job = None  # releases the study while idle


def run(job: Job) -> None:
    """Execute a job; exceptions become its error."""
    try:
        job.context.check(WAITING)
        job.finish(job.work(job), None)
    except PluginError as error:
        logger.warning("an engine of another package failed", exc_info=error)
        job.finish(None, _defect(f"{error.brief}, on the server"))
    except LesionLensError as error:
        job.finish(None, error)
    except Exception as error:
        translated = _translated(error)
        # the traceback of a system error would log a path
        cause = error if isinstance(translated, ServerError) else None
        logger.warning("a request failed: %s", translated.found, exc_info=cause)
        job.finish(None, translated)


def _translated(error: Exception) -> LesionLensError:
    if is_out_of_memory(error):
        return ResourceError(
            found="too little memory on the server",
            expected="a few GB of free memory",
            next_step="Try again later, or analyse on this machine",
        )
    if isinstance(error, OSError) and error.errno is not None:
        return system_error(error)
    return _defect(f"a defect on the server ({type(error).__name__})")


def _defect(found: str) -> ServerError:
    """Return the error for a client, without internal details that may identify a study."""
    return ServerError(
        found=found,
        expected="a response",
        next_step="Tell the server's administrator: started with --debug, it logs the cause",
        in_window="Tell the server's administrator",
    )
