"""Fixed arithmetic, so that a result never depends on the number of cores or the caller's settings.

OpenBLAS, behind numpy and scipy, splits sums by its number of threads, and the order of a sum
changes the last digits.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import threadpoolctl


class _Limit:
    """The limit of this process, shared by all blocks: the last one to end lifts it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks = 0
        self._first: Any = None

    def enter(self) -> Any:
        """Begin a block; return what ends it."""
        import scipy.linalg  # noqa: F401  it brings a library of its own

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
def _without_autocast() -> Iterator[None]:
    torch: Any = sys.modules.get("torch")
    with ExitStack() as stack:
        for kind in ("cpu", "cuda") if hasattr(torch, "is_autocast_enabled") else ():
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


@contextmanager
def fixed_arithmetic() -> Iterator[None]:
    """Fix the arithmetic within the block.

    Linear algebra uses one thread, in all threads of this process; in this thread numpy's own rules
    on underflow and the like apply, and torch's own precision, whatever the caller set by
    `numpy.seterr` or `torch.autocast`. Also a decorator. Blocks may be nested, and run in several
    threads at a time.
    """
    limiter = _limit.enter()
    try:
        with (
            np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"),
            _without_autocast(),
        ):
            yield
    finally:
        _limit.leave(limiter)
