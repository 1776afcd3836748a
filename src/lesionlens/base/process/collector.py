"""Keep Python's garbage collector out of threads other than the main one.

The collector runs in whichever thread allocates, and frees there what other threads left in cycles.
Objects of a window must be freed on the main thread; see `napari.qt.threads`.
"""

from __future__ import annotations

import gc

from lesionlens.base.process.shared_block import SharedBlock


def _disable() -> bool:
    was_enabled = gc.isenabled()
    gc.disable()
    return was_enabled


def _restore(was_enabled: bool) -> None:
    if was_enabled:
        gc.enable()


_pauses = SharedBlock(_disable, _restore)


def paused() -> SharedBlock[bool]:
    """Return the block in which the collector is disabled, for threads that are not a window's."""
    return _pauses


def pause() -> None:
    """Disable the collector until `resume` has been called as many times."""
    _pauses.__enter__()


def resume() -> None:
    """End one `pause`; the last one enables the collector again, if it was enabled before."""
    _pauses.__exit__()


def collect_if_due() -> None:
    """Collect young garbage as the paused collector would have done.

    Only the two younger generations are collected: a full collection would stop a window for a
    quarter of a second.
    """
    for generation in (1, 0):
        if _pauses.is_active and gc.get_count()[generation] > gc.get_threshold()[generation] > 0:
            gc.collect(generation)
            return
