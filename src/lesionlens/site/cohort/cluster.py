"""Distribute studies to the workers of a dask scheduler that the user runs."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from lesionlens.base.errors import MissingPluginError, ResourceError
from lesionlens.base.run_context import RunContext
from lesionlens.site.cohort.processes import GRACE_S, NOT_STOPPED_IN_TIME, POLL_S, WORKER_DIED
from lesionlens.site.cohort.studies import StudyJob
from lesionlens.site.cohort.work import CohortChoice, analyse, forget_networks
from lesionlens.site.database.records import Status, StudyOutcome

_POLL_CANCEL_S = 1.0
_CONNECT_S = 20
_FINAL_STATES = ("finished", "error", "cancelled")
"""Final dask states; an outcome lost with its worker is "lost" and is computed again."""
_begun_runs: set[str] = set()
"""On a worker: names of the stop events of runs in which it analysed a study."""
_LOST = "not analysed: the dask scheduler stopped responding; restart it, then use --resume"


def on_cluster(
    jobs: Sequence[StudyJob], choice: CohortChoice, scheduler: str, context: RunContext
) -> Iterator[StudyOutcome]:
    """Yield the outcome of each study as it completes on the cluster.

    Raises
    ------
    MissingPluginError
        dask.distributed is not installed.
    ResourceError
        The scheduler does not respond, or stopped responding.
    """
    if find_spec("distributed") is None:
        raise MissingPluginError(
            found="no dask.distributed",
            expected="dask.distributed, which runs studies on several machines",
            next_step='Install it: pip install "lesionlens[cohort]"; or omit --scheduler',
        )
    from distributed.comm import CommClosedError

    try:
        yield from _submitted_outcomes(jobs, choice, scheduler, context)
    except CommClosedError as error:
        raise ResourceError(
            found="a dask scheduler that no longer responds",
            expected="a scheduler that runs until the last study is analysed",
            next_step="Restart it, then run the same command with --resume: "
            "finished studies are kept",
        ) from error


def _submitted_outcomes(
    jobs: Sequence[StudyJob], choice: CohortChoice, scheduler: str, context: RunContext
) -> Iterator[StudyOutcome]:
    """Submit every study to the cluster and yield outcomes until none is pending."""
    import distributed

    with _client(scheduler) as client:
        stop = distributed.Event(f"lesionlens-stop-{uuid.uuid4().hex}", client=client)
        pending = {
            client.submit(_analyse_remote, job, choice, stop.name, pure=False): job for job in jobs
        }
        cancel_time: float | None = None
        while pending:
            if cancel_time is None and context.cancel.is_set():
                stop.set()
                cancel_time = time.monotonic()
            if cancel_time is not None and time.monotonic() - cancel_time > GRACE_S:
                yield from (
                    StudyOutcome(j.name, Status.STOPPED, 130, NOT_STOPPED_IN_TIME)
                    for j in pending.values()
                )
                return
            for future in [f for f in pending if f.done() and f.status in _FINAL_STATES]:
                job = pending.pop(future)
                outcome = (
                    future.result() if future.status == "finished" else _failed_outcome(job, future)
                )
                future.release()  # dask analyses again what a worker that dies still holds
                yield outcome
            time.sleep(POLL_S)


def _failed_outcome(job: StudyJob, future: Any) -> StudyOutcome:
    """Distinguish a study whose worker died (an error of dask) from a cancelled one."""
    if future.status == "error":
        return StudyOutcome(job.name, Status.FAILED, 1, WORKER_DIED)
    return StudyOutcome(job.name, Status.STOPPED, 1, _LOST)


def _client(scheduler: str) -> Any:
    """Return a client of the scheduler; certificates for tls:// come from dask's configuration."""
    import dask
    import distributed

    dask.config.set(
        {
            "distributed.scheduler.allowed-failures": 1,
            # a busy machine responds late, but is not lost
            "distributed.comm.timeouts.connect": "120s",
            "distributed.comm.timeouts.tcp": "300s",
        }
    )
    try:
        return distributed.Client(scheduler, timeout=_CONNECT_S)
    except (OSError, TimeoutError, ValueError, TypeError) as error:
        raise ResourceError(
            found=f"no dask scheduler that responds at {scheduler}",
            expected="a scheduler, started with `dask scheduler`, whose workers see both folders",
            next_step="Check the address and, for tls://, dask's own settings for certificates; or "
            "omit --scheduler to run on this machine",
        ) from error


class _RemoteCancel:
    """Polls the scheduler for a cancellation request."""

    def __init__(self, name: str) -> None:
        import distributed

        self._event = distributed.Event(name)
        self._last_poll, self._is_set = 0.0, False

    def is_set(self) -> bool:
        """Return whether to stop now."""
        if not self._is_set and time.monotonic() - self._last_poll > _POLL_CANCEL_S:
            self._is_set, self._last_poll = bool(self._event.is_set()), time.monotonic()
        return self._is_set


def _analyse_remote(job: StudyJob, choice: CohortChoice, event_name: str) -> StudyOutcome:
    if event_name not in _begun_runs:
        _begun_runs.add(event_name)
        forget_networks()
    return analyse(job, choice, RunContext(cancel=_RemoteCancel(event_name)))
