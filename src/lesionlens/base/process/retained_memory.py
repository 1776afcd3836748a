"""Keep freed memory in the process between passes, on glibc.

glibc maps every block above 32 MB separately and unmaps it when it is freed. A network on a whole
head at 1 mm allocates about 20 GB per pass, in blocks of hundreds of MB: the kernel then clears
five million pages per pass, which takes a third of the time. Other C libraries and the allocators
of accelerators keep freed memory: there nothing is changed.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

from lesionlens.base.process import host_process
from lesionlens.base.process.shared_block import SharedBlock

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # of malloc.h
_NEVER_TRIM, _NEVER_MAP, _ONE_ARENA = -1, 0, 1
_TRIM_DEFAULT, _MMAP_DEFAULT = 64 << 20, 65536
"""The values at which glibc itself arrives after blocks of 32 MB."""
_MAX_FREE, _MAX_KEPT = 64 << 20, 256 << 20
"""Maximum freed bytes of a process when further work begins, without and with memory kept for
passes of the network.
"""


def _retain() -> ctypes.CDLL | None:
    libc = _glibc()
    if libc is not None:
        libc.mallopt(_ARENA_MAX, _ONE_ARENA)
        libc.mallopt(_MMAP_MAX, _NEVER_MAP)
        libc.mallopt(_TRIM_THRESHOLD, _NEVER_TRIM)
    return libc


def _release(libc: ctypes.CDLL | None) -> None:
    if libc is not None:
        libc.mallopt(_MMAP_MAX, _MMAP_DEFAULT)
        libc.mallopt(_TRIM_THRESHOLD, _TRIM_DEFAULT)
        libc.malloc_trim(0)


_retained = SharedBlock(_retain, _release)
_unlimited = SharedBlock(lambda: None, lambda _: None)


@contextmanager
def all_memory_retained() -> Iterator[None]:
    """As `retained_memory`, for a command that analyses one study: `trim_memory` does nothing.

    A tenth of an analysis was the kernel clearing pages that had been returned between passes; the
    peak is 70 to 200 MB higher.
    """
    with retained_memory(), _unlimited:
        yield


@contextmanager
def retained_memory() -> Iterator[None]:
    """Reuse freed memory within the block; return it to the system at the end.

    Threads started later share one arena, because memory in one arena cannot be used from another:
    concurrent passes would take 300 MB more. glibc reads this setting once, so it persists; threads
    started earlier have their own arenas, in which large blocks are not kept. Nothing is changed if
    the process is not `tunable`.
    """
    if not host_process.tunable():
        yield
        return
    trim_memory()
    with _retained:
        yield


class _Counts(ctypes.Structure):
    """`struct mallinfo2` of malloc.h, summed over all arenas."""

    _fields_ = (
        ("others", ctypes.c_size_t * 8),
        ("free", ctypes.c_size_t),
        ("top", ctypes.c_size_t),
    )


def trim_memory() -> None:
    """Return freed memory to the system before further work, if it is much.

    A window has many threads, and therefore many arenas: each group of passes would leave its
    memory in other arenas, 1 to 2 GB in one analysis. Does nothing before glibc 2.33 or within
    `all_memory_retained`.
    """
    if _unlimited.is_active:
        return
    libc = _glibc()
    mallinfo2 = getattr(libc, "mallinfo2", None)
    if libc is None or mallinfo2 is None:
        return
    mallinfo2.restype = _Counts
    if mallinfo2().free > (_MAX_KEPT if _retained.is_active else _MAX_FREE):
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """Return the C library of this process if it is glibc."""
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
