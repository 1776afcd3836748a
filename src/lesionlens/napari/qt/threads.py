"""Threads that work for a window; their arguments are freed on the main thread.

When an object whose method is connected to a Qt signal is freed, PySide removes its connections
from a table of the whole process without holding Python's lock (`disconnectReceiver` in
libpyside/dynamicslot.cpp): the process crashes if the main thread connects a signal or deletes a
widget at that moment. Therefore the arguments of a thread are kept until it has ended, and while
one works the garbage collector, which runs in any thread that allocates, is off; a timer of the
main thread collects instead.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, NamedTuple, TypeVar

from qtpy.QtCore import QCoreApplication, QTimer

T = TypeVar("T")

_INTERVAL_MS = 50


class _Work(NamedTuple):
    has_ended: Callable[[], bool]
    arguments: object


class _Custodian:
    """Keeps the arguments of running threads, and collects garbage in their place."""

    def __init__(self) -> None:
        self._running: list[_Work] = []
        self._ended: list[_Work] = []
        self._is_timer_set = False

    def keep(self, has_ended: Callable[[], bool], arguments: object) -> None:
        """Keep the arguments of a thread until it has ended."""
        self._running.append(_Work(has_ended, arguments))
        self.pause_collector()

    def pause_collector(self) -> None:
        if not self._is_timer_set and QCoreApplication.instance() is not None:
            self._is_timer_set = True
            gc.disable()
            QTimer.singleShot(_INTERVAL_MS, self._attend)

    def _attend(self) -> None:
        """Free the arguments of threads that had ended at the last call; collect garbage if due.

        The interval matters for a pool, whose thread drops them after it has reported the end.
        """
        self._is_timer_set = False
        works, self._running, self._ended = self._running, [], []
        for work in works:
            (self._ended if work.has_ended() else self._running).append(work)
        young, middle, _ = gc.get_count()
        if young > gc.get_threshold()[0]:
            gc.collect(1 if middle > gc.get_threshold()[1] else 0)  # a full one takes .25 s
        if self._running or self._ended:
            self.pause_collector()
        else:
            gc.enable()


_custodian = _Custodian()


def prepare_rotations() -> None:
    """Compute a rotation before a thread imports torch, so that napari's camera can meanwhile.

    SciPy asks once for each type whether it is torch's, and fails while torch is being imported.
    """
    from scipy.spatial.transform import Rotation

    Rotation.from_quat([0.0, 0.0, 0.0, 1.0]).as_matrix()


def start_thread(
    name: str, function: Callable[..., object], *arguments: Any, is_daemon: bool = True
) -> threading.Thread:
    """Run a function in a separate thread; called on the main thread.

    Parameters
    ----------
    function : callable
        Called with the arguments; its return value is ignored.
    *arguments
        Freed on the main thread, after the function has returned.
    is_daemon : bool
        Whether the process may end before the thread.
    """
    thread = threading.Thread(target=function, args=arguments, name=name, daemon=is_daemon)
    _custodian.keep(lambda: not (thread.ident is None or thread.is_alive()), (function, arguments))
    thread.start()
    return thread


def submit(pool: Executor, function: Callable[..., T], *arguments: Any) -> Future[T]:
    """Run a function in a thread of a pool, as `start_thread` does; called on the main thread."""
    _custodian.pause_collector()  # before the pool's thread begins
    future = pool.submit(function, *arguments)
    _custodian.keep(future.done, (function, arguments))
    return future
