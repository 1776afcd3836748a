"""Several forward passes at a time, each in its own thread; needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
MAX_CONCURRENT = 4
"""Maximum number of concurrent passes; more need more memory without saving time."""


def run_in_pool(
    run: Callable[[T], R],
    inputs: Sequence[T],
    workers: int,
    begin_thread: Callable[[], object] | None = None,
) -> Iterator[R]:
    """Yield `run` of each input, in order; `begin_thread` is called first in each thread.

    Raises
    ------
    Exception
        The exception of a pass; passes not started are skipped, and none is running afterwards.
    """
    pool = ThreadPoolExecutor(workers, "pass", begin_thread)
    try:
        yield from pool.map(run, inputs)
    finally:
        pool.shutdown(cancel_futures=True)
