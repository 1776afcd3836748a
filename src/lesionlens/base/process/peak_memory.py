"""Peak memory of this process on each operating system."""

from __future__ import annotations

import ctypes
import sys
from typing import Any


class _Counters(ctypes.Structure):
    """`PROCESS_MEMORY_COUNTERS` of Windows' psapi.h."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("page_faults", ctypes.c_uint32),
        ("peak_working_set", ctypes.c_size_t),
        ("others", ctypes.c_size_t * 7),
    )


def peak_memory_mib() -> float:
    """Return the process's peak resident memory so far, in MiB."""
    if sys.platform == "win32":
        return windows_peak_mib(ctypes.windll.kernel32)
    else:  # noqa: RET505  (so that type checkers see one system at a time)
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (2**20 if sys.platform == "darwin" else 2**10)


def windows_peak_mib(kernel32: Any) -> float:
    """Return the peak working set by `GetProcessMemoryInfo`; 0 if Windows refuses."""
    counters = _Counters(size=ctypes.sizeof(_Counters))
    kernel32.GetCurrentProcess.restype = ctypes.c_void_p
    kernel32.K32GetProcessMemoryInfo.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint32)
    succeeded = kernel32.K32GetProcessMemoryInfo(
        kernel32.GetCurrentProcess(), ctypes.byref(counters), counters.size
    )
    return float(counters.peak_working_set) / 2**20 if succeeded else 0.0
