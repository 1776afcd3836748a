"""Memory that was freed goes back to the system, where the C library can be asked to do so."""

from __future__ import annotations

import ctypes
import gc
import platform
from functools import cache
from typing import Any

from lesionlens.base import host_process


def give_back() -> bool:
    """Collect what nothing refers to, and hand free pages back to the system.

    glibc keeps what threads freed in their own arenas: a window that reads one study after the
    other would grow by each of them.

    Returns
    -------
    bool
        Whether the C library was asked; False if there is nothing to ask.
    """
    gc.collect()
    trim = _trimmer()
    if trim is None:
        return False
    trim(0)
    return True


def collect_and_freeze() -> bool:
    """As `give_back`, and spare what is left from collections until the next call.

    napari asks the collector whenever a layer goes, and going through the modules of a network
    takes a quarter of a second each time. What is spared is traced again here, so nothing is
    kept permanently. In a process that is not ours to tune nothing is spared.
    """
    if not host_process.tunable():
        return give_back()
    gc.unfreeze()
    given = give_back()
    gc.freeze()
    return given


@cache
def _trimmer() -> Any:
    """Return glibc's malloc_trim, or None with another C library."""
    if platform.system() != "Linux":
        return None
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
