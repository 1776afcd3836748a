"""One study at a time for each engine, even if several threads use it.

Engines cache the input and the predictions of the last study. Two concurrent studies would read
each other's predictions.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakValueDictionary

from lesionlens.base.run_context import RunContext

_POLL_S = 0.1


class _Turn:
    """A reentrant lock that exists as long as a thread uses or awaits it."""

    def __init__(self) -> None:
        self.lock = threading.RLock()


_turns_lock = threading.Lock()
_turns: WeakValueDictionary[int, _Turn] = WeakValueDictionary()
"""Lock by the identity of an engine, which exists while a thread uses it."""


def _reset_after_fork() -> None:
    """Remove the locks of threads that a forked process does not have."""
    global _turns_lock
    _turns_lock = threading.Lock()
    _turns.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)


@contextmanager
def exclusive_use(engine: object, context: RunContext) -> Iterator[None]:
    """Wait until no other thread uses an engine, and use it alone.

    Raises
    ------
    CancelledError
        The user asked to stop while waiting.
    """
    with _turns_lock:
        turn = _turns.setdefault(id(engine), _Turn())
    while not turn.lock.acquire(timeout=_POLL_S):
        context.check("waiting for another analysis by this engine")
    try:
        yield
    finally:
        turn.lock.release()
