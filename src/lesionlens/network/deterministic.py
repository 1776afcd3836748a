"""Deterministic predictions: identical bits with any number of threads.

Torch and oneDNN split sums by the number of threads, and the order of float32 sums changes the last
digits. So a pass always uses the same number of threads, and further cores run concurrent passes
(`network.concurrent_passes`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ContextDecorator, contextmanager, nullcontext
from functools import wraps
from typing import Generic, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")


class _ThreadSetting(threading.local):
    threads: int | None = None


_outer_setting = _ThreadSetting()
"""The number of threads outside the blocks of this thread."""


class SharedBlock(ContextDecorator, Generic[S]):
    """A setting that lasts until the last of overlapping blocks of several threads ends."""

    def __init__(self, begin: Callable[[], S], end: Callable[[S], object]) -> None:
        self._begin, self._end = begin, end
        self._lock, self._blocks = threading.Lock(), 0
        self.before: S

    @property
    def is_active(self) -> bool:
        """Whether a block has begun and not ended, in any thread."""
        return self._blocks > 0

    def __enter__(self) -> S:
        with self._lock:
            if not self.is_active:
                self.before = self._begin()
            self._blocks += 1
            return self.before

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._blocks -= 1
            if not self.is_active:
                self._end(self.before)


_process_threads = SharedBlock(torch.get_num_threads, lambda _: None)
"""The number of threads of the process outside all blocks.

Torch gives a new thread the number that any thread set last: within a block of another thread, that
of the block.
"""


def thread_count() -> int:
    """Return the number of threads set outside `fixed_threads`; in a worker its own."""
    if _outer_setting.threads is not None:
        return _outer_setting.threads
    return _process_threads.before if _process_threads.is_active else torch.get_num_threads()


def set_threads_of_worker(count: int) -> None:
    """Set the number of threads of this thread, which was started for passes of a block."""
    torch.set_num_threads(count)
    _outer_setting.threads = count


@contextmanager
def restored_threads() -> Iterator[int]:
    """Restore the number of threads after the block, which may set it and start workers.

    Yields
    ------
    int
        The number that this thread has again afterwards.
    """
    is_outermost = _outer_setting.threads is None
    with _process_threads if is_outermost else nullcontext(torch.get_num_threads()) as threads:
        try:
            yield threads
        finally:
            torch.set_num_threads(threads)


@contextmanager
def fixed_threads(count: int) -> Iterator[None]:
    """Use exactly this number of threads, and float32 in full, within the block.

    A default device that the caller set in this thread does not apply either.
    """
    previous = _outer_setting.threads
    with restored_threads() as threads:
        _outer_setting.threads = previous or threads
        torch.set_num_threads(count)
        try:
            with _full_precision, _no_default_device():
                yield
        finally:
            _outer_setting.threads = previous


@contextmanager
def _no_default_device() -> Iterator[None]:
    """Unset `torch.set_default_device` in this thread, under which attention is rounded otherwise.

    Torch then has no fused attention between queries, not even where the default is the CPU. The
    default is that of a new tensor: `torch.get_default_device` of torch 2.8 fails once it is unset.
    """
    previous = torch.empty(0).device
    torch.set_default_device(None)
    was_set = previous != torch.empty(0).device  # not by a block `with torch.device(...)`
    try:
        yield
    finally:
        if was_set:
            torch.set_default_device(previous)


def _require_full_precision() -> str:
    try:
        before = torch.get_float32_matmul_precision()
    except RuntimeError:  # set by torch's newer interface, with which this one must not be mixed
        return "highest"
    if before != "highest":
        torch.set_float32_matmul_precision("highest")
    return before


def _restore_precision(before: str) -> None:
    if before != "highest":
        torch.set_float32_matmul_precision(before)


_full_precision = SharedBlock(_require_full_precision, _restore_precision)
"""Products of matrices in float32, in the whole process, while any block lasts.

Programs often allow less for the whole process, by `torch.set_float32_matmul_precision`: they then
have the digits of bfloat16 on a CPU, and of TF32 on a GPU.
"""


def with_threads(count: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Run a method within `fixed_threads`."""

    def decorate(method: Callable[P, R]) -> Callable[P, R]:
        @wraps(method)
        def run_with_threads(*args: P.args, **kwargs: P.kwargs) -> R:
            with fixed_threads(count):
                return method(*args, **kwargs)

        return run_with_threads

    return decorate
