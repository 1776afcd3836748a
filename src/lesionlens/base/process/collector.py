"""Keep Python's garbage collector out of threads other than the main one.

The collector runs in whichever thread allocates, and frees there what other threads left in cycles.
Objects of a window must be freed on the main thread; see `napari.qt.threads`.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Pauses:
    """Number of threads for which the collector is paused, and whether it was enabled before."""

    def __init__(self) -> None:
        self.count = 0
        self.was_enabled = False
        self.lock = threading.Lock()


_pauses = _Pauses()


def pause() -> None:
    """Disable the collector until `resume` has been called as many times."""
    with _pauses.lock:
        if _pauses.count == 0:
            _pauses.was_enabled = gc.isenabled()
            gc.disable()
        _pauses.count += 1


def resume() -> None:
    """End one `pause`; the last one enables the collector again, if it was enabled before."""
    with _pauses.lock:
        _pauses.count -= 1
        if _pauses.count == 0 and _pauses.was_enabled:
            gc.enable()


@contextmanager
def paused() -> Iterator[None]:
    """Disable the collector within the block; for threads that are not a window's own."""
    pause()
    try:
        yield
    finally:
        resume()


def collect_if_due() -> None:
    """Collect young garbage as the paused collector would have done.

    Only the two younger generations are collected: a full collection would stop a window for a
    quarter of a second.
    """
    for generation in (1, 0):
        if _pauses.count and gc.get_count()[generation] > gc.get_threshold()[generation] > 0:
            gc.collect(generation)
            return
