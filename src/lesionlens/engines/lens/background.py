"""Run a function in a background thread, on a core that is otherwise idle."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from types import TracebackType

from lesionlens.base.run_context import Cancel


class BackgroundTask:
    """A function that runs in a thread until the end of a `with` block.

    Parameters
    ----------
    function : callable or None
        Receives a flag that is set when it should return soon; None for nothing to do.
    initializer : callable or None
        Called first in that thread.
    """

    def __init__(
        self,
        function: Callable[[Cancel], None] | None = None,
        initializer: Callable[[], None] | None = None,
    ) -> None:
        self._stop_requested, self._pool = Event(), ThreadPoolExecutor(1, "background", initializer)
        self._running: Future[None] | None = function and self._pool.submit(
            function, self._stop_requested
        )

    def close(self) -> None:
        """End the function, wait for it, and raise its error."""
        self._stop()
        if self._running is not None:
            self._running.result()

    def _stop(self) -> None:
        self._stop_requested.set()
        self._pool.shutdown()

    def __enter__(self) -> BackgroundTask:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._stop()
