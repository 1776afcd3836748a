"""Progress, cancellation and the clock of a run's stages."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Protocol

from lesionlens.base.errors import CancelledError
from lesionlens.base.file_fields import STRICT, Decimals
from lesionlens.base.peak_memory import peak_memory_mib


class Progress(Protocol):
    """Called at each step; must return quickly and may be called from a worker thread."""

    def __call__(self, stage: str, fraction: float) -> None:
        """Take the stage's name in words and how much of it is done, 0 to 1."""


class Cancel(Protocol):
    """Asked between steps whether the user wants to stop."""

    def is_set(self) -> bool:
        """Whether to stop now."""


def no_progress(stage: str, fraction: float) -> None:
    """Report to nobody."""


NEVER: Cancel = threading.Event()
"""A request to stop that never comes."""


def check(cancel: Cancel, stage: str) -> None:
    """Raise CancelledError where the user asked to stop."""
    if cancel.is_set():
        raise CancelledError(stage)


class TimeLimit:
    """A request to stop that comes from the user, or by itself when time is up.

    Parameters
    ----------
    seconds : float
        From now; `math.inf` for no limit.
    cancel : Cancel
        Whether the user wants to stop.
    """

    def __init__(self, seconds: float, cancel: Cancel = NEVER) -> None:
        self._end, self._cancel = time.monotonic() + seconds, cancel

    @property
    def seconds_left(self) -> float:
        """Seconds until time is up, 0 from then on."""
        return max(0.0, self._end - time.monotonic())

    def is_set(self) -> bool:
        """Whether to stop now."""
        return self._cancel.is_set() or self.seconds_left <= 0

    def __enter__(self) -> None:
        """Begin a block that ends early, without an error, where time is up."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        """Hold back the error by which time that is up ends the block, and no other."""
        late = self.seconds_left <= 0 and not self._cancel.is_set()
        return isinstance(error, CancelledError) and late


@dataclass(frozen=True, slots=True)
class StageTime:
    """What one stage took: wall seconds, and the process's peak memory (MiB) when it ended."""

    __pydantic_config__: ClassVar = STRICT

    name: str
    seconds: Annotated[float, Decimals(4)]
    peak_memory_mib: Annotated[float, Decimals(1)]


@dataclass(slots=True)
class StageClock:
    """Times the stages of one run and passes on progress and cancellation.

    The one mutable object that travels through a run; it ends as a tuple of `StageTime`.
    """

    progress: Progress = no_progress
    cancel: Cancel = NEVER
    times: list[StageTime] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage; announces its start and its end, stops before it when asked to."""
        check(self.cancel, name)
        self.progress(name, 0.0)
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        self.times.append(StageTime(name, seconds, peak_memory_mib()))
        self.progress(name, 1.0)
