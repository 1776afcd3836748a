"""The context of a call: whom to report progress to, when to stop, and the clock of its stages."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, Protocol

from lesionlens.base.errors import CancelledError
from lesionlens.base.file_fields import STRICT, Decimals
from lesionlens.base.peak_memory import peak_memory_mib


class Progress(Protocol):
    """Called at each step; must return quickly and may be called from a worker thread."""

    def __call__(self, stage: str, fraction: float) -> None:
        """Report the stage's name, in words, and how much of it is done, 0 to 1."""


class Cancel(Protocol):
    """Polled between steps: a `threading.Event`, or anything that answers like one."""

    def is_set(self) -> bool:
        """Whether to stop now."""


def no_progress(stage: str, fraction: float) -> None:
    """Report to nobody."""


NEVER: Cancel = threading.Event()
"""A request to stop that never comes."""


@dataclass(frozen=True, slots=True)
class StageTime:
    """What one stage took: wall seconds, and the process's peak memory (MiB) when it ended."""

    __pydantic_config__: ClassVar = STRICT

    name: str
    seconds: Annotated[float, Decimals(4)]
    peak_memory_mib: Annotated[float, Decimals(1)]


@dataclass(frozen=True, slots=True)
class RunContext:
    """What a call that takes time is handed; the default is silent and never stops.

    Parameters
    ----------
    progress : Progress
        Called at each step.
    cancel : Cancel
        Polled between steps.
    times : list of StageTime or None
        Receives what each stage took; None if nobody asks.
    """

    progress: Progress = no_progress
    cancel: Cancel = NEVER
    times: list[StageTime] | None = field(default=None, compare=False)

    def check(self, stage: str) -> None:
        """Raise CancelledError, with the stage's name, if the user asked to stop."""
        if self.cancel.is_set():
            raise CancelledError(stage)

    def quiet(self) -> RunContext:
        """Return a context that stops when this one does, and reports and times nothing."""
        return RunContext(cancel=self.cancel)

    def timed(self) -> RunContext:
        """Return this context with a clock of its own."""
        return replace(self, times=[])

    def part(self, low: float, high: float, title: str = "{}") -> RunContext:
        """Return the context of a part that is the share `low` to `high` of the whole.

        Parameters
        ----------
        low, high : float
            0 to 1; equal ones hold the fraction where it is.
        title : str
            Name of a stage, in which `{}` stands for the part's own stage.
        """

        def report(stage: str, fraction: float) -> None:
            self.progress(title.replace("{}", stage), low + (high - low) * fraction)

        return replace(self, progress=report)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage; announces its start and its end, stops before it when asked to."""
        self.check(name)
        self.progress(name, 0.0)
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        if self.times is not None:
            self.times.append(StageTime(name, seconds, peak_memory_mib()))
        self.progress(name, 1.0)


SILENT = RunContext()
"""Reports to nobody and never stops."""


class TimeLimit:
    """A request to stop that comes from the user, or by itself when time is up.

    Parameters
    ----------
    seconds : float
        From now; `math.inf` for no limit.
    context : RunContext
        Whether a stop was requested.
    """

    def __init__(self, seconds: float, context: RunContext = SILENT) -> None:
        self._end, self._whole = time.monotonic() + seconds, context

    @property
    def context(self) -> RunContext:
        """The context of what has to end in time."""
        return replace(self._whole, cancel=self)

    @property
    def seconds_left(self) -> float:
        """Seconds until time is up, 0 from then on."""
        return max(0.0, self._end - time.monotonic())

    def is_set(self) -> bool:
        """Whether to stop now."""
        return self._whole.cancel.is_set() or self.seconds_left <= 0

    def __enter__(self) -> None:
        """Begin a block that ends early, without an error, where time is up."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        """Suppress the error by which the time limit ends the block, and no other."""
        late = self.seconds_left <= 0 and not self._whole.cancel.is_set()
        return isinstance(error, CancelledError) and late
