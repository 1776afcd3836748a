"""Run forward passes concurrently on the cores of one CPU.

The number of threads per pass never depends on the machine, because it changes the last digits. Two
threads that share one pass also synchronise after every layer: on a busy machine an analysis takes
a third longer than with one pass per core. On an idle machine both take the same time
(`research/RESULTS.md`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from lesionlens.network.deterministic import fixed_threads, thread_count

T = TypeVar("T")
R = TypeVar("R")
_AT_MOST = 4
"""Maximum number of concurrent passes; more need more memory without saving time."""


def side_by_side(run: Callable[[T], R], inputs: Sequence[T], last: int = 2) -> Iterator[R]:
    """Yield `run` of each input, in order; an odd last one is run alone.

    Parameters
    ----------
    run : callable
        Runs one pass; called in worker threads with one thread each. The odd one runs in the
        calling thread.
    last : int
        Threads of an odd last pass.

    Raises
    ------
    Exception
        The exception of a pass; passes not started are skipped, and none is running afterwards.
    """
    paired = len(inputs) - len(inputs) % 2
    at_once = min(thread_count(), paired, _AT_MOST)
    if at_once > 1:
        yield from _in_a_pool(run, inputs[:paired], at_once)
    else:
        for one in inputs[:paired]:
            with fixed_threads(1):
                answer = run(one)
            yield answer
    for one in inputs[paired:]:
        with fixed_threads(last):
            answer = run(one)
        yield answer


def _in_a_pool(run: Callable[[T], R], inputs: Sequence[T], at_once: int) -> Iterator[R]:
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(at_once, "pass", torch.set_num_threads, (1,))
    try:
        yield from pool.map(run, inputs)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)  # threads started later inherit the last number set
