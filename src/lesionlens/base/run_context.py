"""The context of a long-running call: progress, cancellation and stage timing."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, Protocol

from lesionlens.base.errors import CancelledError
from lesionlens.base.model import STRICT, Decimals


class Progress(Protocol):
    """Callback for progress; must return quickly and may be called from a worker thread."""

    def __call__(self, stage: str, fraction: float) -> None:
        """Report the stage's name, in words, and how much of it is done, 0 to 1."""


class Cancel(Protocol):
    """Cancellation flag that is polled between steps, such as a `threading.Event`."""

    def is_set(self) -> bool:
        """Return whether to stop now."""


@dataclass(frozen=True, slots=True)
class CancelWhen:
    """A cancellation flag that is set when a function returns True."""

    is_set: Callable[[], bool]


def no_progress(stage: str, fraction: float) -> None:
    """Ignore progress."""


REPORT = logging.INFO + 5
"""Level of a log that shows progress without a terminal, for example one line per study."""
logging.addLevelName(REPORT, "REPORT")
NEVER: Cancel = threading.Event()
_POLL_S = 0.05


@contextmanager
def on_cancel(cancel: Cancel, act: Callable[[threading.Event], object]) -> Iterator[None]:
    """Call `act` in a thread of its own if cancellation is requested within the block.

    For calls that do not poll by themselves. The thread has ended when the block has.

    Parameters
    ----------
    act : callable
        Called at most once, with an event that is set when the block ends.
    """
    if cancel is NEVER:
        yield
        return
    finished = threading.Event()

    def watch() -> None:
        while not finished.wait(_POLL_S):
            if cancel.is_set():
                act(finished)
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        finished.set()
        watcher.join()


def peak_memory_mib() -> float:
    """Return the process's peak resident memory so far, in MiB; 0 on Windows."""
    if sys.platform == "win32":
        return 0.0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


@dataclass(frozen=True, slots=True)
class StageTime:
    """Duration of one stage in seconds, and the process's peak memory (MiB) at its end."""

    __pydantic_config__: ClassVar = STRICT

    name: str
    seconds: Annotated[float, Decimals(4)]
    peak_memory_mib: Annotated[float, Decimals(1)]


@dataclass(frozen=True, slots=True)
class RunContext:
    """Context of a long-running call; the default reports nothing and is never cancelled.

    Parameters
    ----------
    times : list of StageTime or None
        Receives the duration of each stage; None to discard it.
    """

    progress: Progress = no_progress
    cancel: Cancel = NEVER
    times: list[StageTime] | None = field(default=None, compare=False)

    def check(self, stage: str) -> None:
        """Raise CancelledError, with the stage's name, if cancellation was requested."""
        if self.cancel.is_set():
            raise CancelledError(stage)

    def pause(self, stage: str, seconds: float) -> None:
        """Wait; raises CancelledError, with the stage's name, if cancelled while waiting."""
        end = time.monotonic() + seconds
        self.check(stage)
        while (remaining := end - time.monotonic()) > 0:
            time.sleep(min(remaining, 0.05))
            self.check(stage)

    def quiet(self) -> RunContext:
        """Return a context that is cancelled with this one, without progress and timing."""
        return RunContext(cancel=self.cancel)

    def timed(self) -> RunContext:
        """Return this context with its own list of stage times."""
        return replace(self, times=[])

    def part(self, low: float, high: float, title: str = "{}") -> RunContext:
        """Return the context of a subtask that covers the share `low` to `high` of the progress.

        Parameters
        ----------
        low, high : float
            0 to 1; if they are equal, the fraction does not change.
        title : str
            Stage name, in which `{}` is replaced by the subtask's own stage.
        """

        def report(stage: str, fraction: float) -> None:
            self.progress(title.replace("{}", stage), low + (high - low) * fraction)

        return replace(self, progress=report)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage and report its start and end; raises if cancelled before it."""
        self.check(name)
        self.progress(name, 0.0)
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        if self.times is not None:
            self.times.append(StageTime(name, seconds, peak_memory_mib()))
        self.progress(name, 1.0)


SILENT = RunContext()
"""Context without progress that is never cancelled."""
