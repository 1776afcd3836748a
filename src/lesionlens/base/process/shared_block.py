"""Settings of the whole process for the time of a block, in several threads at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ContextDecorator
from typing import Generic, TypeVar

T = TypeVar("T")


class SharedBlock(ContextDecorator, Generic[T]):
    """A setting that lasts until the last of overlapping blocks ends; the first one makes it.

    Parameters
    ----------
    begin : callable
        Makes the setting, and returns what it was before.
    end : callable
        Restores what `begin` returned.
    """

    def __init__(self, begin: Callable[[], T], end: Callable[[T], object]) -> None:
        self._begin, self._end = begin, end
        self._lock, self._blocks = threading.Lock(), 0
        self.before: T
        """The setting before the first block, if `is_active`."""

    @property
    def is_active(self) -> bool:
        """Whether a block has begun and not ended, in any thread."""
        return self._blocks > 0

    def __enter__(self) -> T:
        with self._lock:
            if not self.is_active:
                self.before = self._begin()
            self._blocks += 1
            return self.before

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._blocks -= 1
            if not self.is_active:
                self._end(self.before)
