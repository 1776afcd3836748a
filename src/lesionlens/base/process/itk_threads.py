"""ITK's number of threads, which is set for the whole process.

A filter that ITK creates within another one uses this number, even if the outer one was given
another.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()


def set_itk_threads(count: int) -> None:
    """Set the number of threads; waits for the end of `one_itk_thread` in other threads."""
    import SimpleITK as sitk  # noqa: PLC0415  (heavy)

    with _lock:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(count)


@contextmanager
def one_itk_thread() -> Iterator[None]:
    """Let every filter of the process use one thread within the block; blocks wait for each other.

    For filters whose sums depend on the number of threads.
    """
    import SimpleITK as sitk  # noqa: PLC0415  (heavy)

    with _lock:
        count = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
        try:
            yield
        finally:
            sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(count)
