"""Peak memory on a system without the module resource."""

from __future__ import annotations

import ctypes

from lesionlens.base.process.peak_memory import windows_peak_mib


class Kernel32:
    """Answers as Windows does: the peak lies after two 32-bit words, padded to none."""

    class _Callable:
        def __init__(self, call):
            self._call = call

        def __call__(self, *given):
            return self._call(*given)

    def __init__(self, told=1):
        def fill(process, counters, size):
            assert (process, size) == (-1, 72)
            words = ctypes.cast(counters, ctypes.POINTER(ctypes.c_uint64))
            words[1] = 300 << 20
            return told

        self.GetCurrentProcess = self._Callable(lambda: -1)
        self.K32GetProcessMemoryInfo = self._Callable(fill)


def test_windows_is_asked_for_the_peak_by_its_own_structure():
    assert windows_peak_mib(Kernel32()) == 300
