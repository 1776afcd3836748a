"""Run forward passes concurrently on the cores of one CPU.

The number of threads per pass never depends on the machine, because it changes the last digits. Two
threads that share one pass also synchronise after every layer: on a busy machine an analysis takes
a third longer than with one pass per core. On an idle machine both take the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from lesionlens.network.deterministic import (
    fixed_threads,
    restored_threads,
    set_threads_of_worker,
    thread_count,
)

T = TypeVar("T")
R = TypeVar("R")
_MAX_CONCURRENT = 4
"""Maximum number of concurrent passes; more need more memory without saving time."""


def run_concurrently(
    run: Callable[[T], R], inputs: Sequence[T], last_threads: int = 2
) -> Iterator[R]:
    """Yield `run` of each input, in order; an odd last one is run alone.

    Parameters
    ----------
    run : callable
        Runs one pass; called in worker threads with one thread each. The odd one runs in the
        calling thread.
    last_threads : int
        Number of threads of an odd last pass.

    Raises
    ------
    Exception
        The exception of a pass; passes not started are skipped, and none is running afterwards.
    """
    paired_count = len(inputs) - len(inputs) % 2
    workers = min(thread_count(), paired_count, _MAX_CONCURRENT)
    if workers > 1:
        yield from _run_in_pool(run, inputs[:paired_count], workers)
    else:
        for item in inputs[:paired_count]:
            with fixed_threads(1):
                result = run(item)
            yield result
    for item in inputs[paired_count:]:
        with fixed_threads(last_threads):
            result = run(item)
        yield result


def _run_in_pool(run: Callable[[T], R], inputs: Sequence[T], workers: int) -> Iterator[R]:
    with restored_threads():  # threads started later inherit the last number set
        pool = ThreadPoolExecutor(workers, "pass", set_threads_of_worker, (1,))
        try:
            yield from pool.map(run, inputs)
        finally:
            pool.shutdown(cancel_futures=True)
