"""Linear algebra with one thread, so that a result never depends on the number of cores.

OpenBLAS, behind numpy and scipy, splits sums by its number of threads, and the order of a sum
changes the last digits.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import threadpoolctl


class _Limit:
    """The limit of this process, shared by all blocks: the last one to end lifts it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks = 0
        self._first: Any = None

    def enter(self) -> Any:
        """Begin a block; return what ends it."""
        import scipy.linalg  # noqa: F401, PLC0415  it brings a library of its own

        with self._lock, _control():
            libraries = threadpoolctl.ThreadpoolController().select(user_api="blas")
            limiter = libraries.limit(limits=1)
            self._blocks += 1
            if self._blocks == 1:
                self._first = limiter
            return limiter

    def leave(self, limiter: Any) -> None:
        """End a block; with the last one, the process has the number of threads from before."""
        with self._lock, _control():
            self._blocks -= 1
            if self._blocks == 0:
                self._first.restore_original_limits()
                self._first = None
            elif limiter is not self._first:
                limiter.restore_original_limits()


@contextmanager
def _control() -> Iterator[None]:
    """Let this thread set the number of threads; otherwise the first to set it keeps the right."""
    controller = threadpoolctl.OpenBLASController
    controller.clear_controlling_thread(force=True)
    try:
        yield
    finally:
        controller.clear_controlling_thread(force=True)


_limit = _Limit()


@contextmanager
def serial_algebra() -> Iterator[None]:
    """Use one thread for linear algebra within the block, in all threads of this process.

    Also a decorator. Blocks may be nested, and run in several threads at a time.
    """
    limiter = _limit.enter()
    try:
        yield
    finally:
        _limit.leave(limiter)
