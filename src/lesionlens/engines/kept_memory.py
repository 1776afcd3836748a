"""Keep freed memory for the next pass, where the C library would hand it back to the system.

glibc maps every block of more than 32 MB again and unmaps it when it is freed. A network that reads
a whole head at 1 mm allocates some 20 GB in a pass, in blocks of hundreds of MB: the system then
clears five million pages a pass, which takes a third of the time. Other C libraries keep what was
freed, and so do the allocators of accelerators: there nothing is changed.
"""

from __future__ import annotations

import ctypes
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from lesionlens.base import host_process

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # of malloc.h
_NEVER_TRIM, _NEVER_MAP, _ONE_ARENA = -1, 0, 1
_TRIM_DEFAULT, _MMAP_DEFAULT = 64 << 20, 65536
"""What glibc itself arrives at once it has met blocks of 32 MB."""
_lock = threading.Lock()
_inside = 0


@contextmanager
def kept_memory() -> Iterator[None]:
    """Within the block, reuse what is freed; at its end, hand all of it back.

    Threads begun from then on share one arena, for what one keeps another could not use: passes
    side by side would take 300 MB more. glibc reads that once, so it stays; threads begun before
    have arenas of their own, in which large blocks are not kept. A process that is not ours to tune
    is left as it is.
    """
    global _inside  # noqa: PLW0603  (one allocator a process)
    libc = _glibc() if host_process.tunable() else None
    if libc is None:
        yield
        return
    with _lock:
        _inside += 1
        if _inside == 1:
            libc.mallopt(_ARENA_MAX, _ONE_ARENA)
            libc.mallopt(_MMAP_MAX, _NEVER_MAP)
            libc.mallopt(_TRIM_THRESHOLD, _NEVER_TRIM)
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                libc.mallopt(_MMAP_MAX, _MMAP_DEFAULT)
                libc.mallopt(_TRIM_THRESHOLD, _TRIM_DEFAULT)
                libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """Return the C library of this process where it is glibc."""
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
