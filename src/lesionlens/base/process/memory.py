"""Return freed memory to the operating system."""

from __future__ import annotations

import ctypes
import gc
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from lesionlens.base.process import host_process


class _State:
    has_frozen: bool = False
    """Whether this module froze objects: Python would count them, which takes 30 ms."""


_state = _State()


def release_memory() -> bool:
    """Run the garbage collector and return free heap pages to the system.

    glibc keeps freed memory in per-thread arenas, so that a window that opens many studies would
    grow with each of them.

    Returns
    -------
    bool
        Whether the C library supports it.
    """
    gc.collect()
    trim = _trimmer()
    if trim is None:
        return False
    trim(0)
    return True


def collect_and_freeze() -> bool:
    """Collect as `release_memory` does, and freeze the remaining objects until the next call.

    napari runs the garbage collector whenever a layer is removed, and traversing the loaded modules
    takes a quarter of a second each time. Frozen objects are traversed again at the next call, so
    nothing leaks. Nothing is frozen if the process is not `tunable`.
    """
    if not host_process.tunable():
        return release_memory()
    unfreeze()
    released = release_memory()
    freeze()
    return released


def freeze() -> None:
    """Exclude all existing objects from garbage collection until `unfreeze`."""
    gc.freeze()
    _state.has_frozen = True


def unfreeze() -> None:
    """Include all objects in garbage collection again."""
    gc.unfreeze()
    _state.has_frozen = False


@contextmanager
def existing_objects_excluded() -> Iterator[None]:
    """Exclude objects that exist already from garbage collection within the block.

    napari collects at each removed layer: .4 s a layer where nothing is frozen. Afterwards the
    process is as before; cycles that the block left are freed by the next collection. On Windows
    nothing is excluded, as napari's collection protects its OpenGL drivers.
    """
    if _state.has_frozen or gc.get_freeze_count() or platform.system() == "Windows":
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@cache
def _trimmer() -> Any:
    """Return glibc's malloc_trim, or None with another C library."""
    if platform.system() != "Linux":
        return None
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
