"""Run passes of a network side by side on the cores of one processor.

How many threads share a pass depends on the passes alone, never on the machine: another number
would give other last digits. Two threads that share one pass also meet after every layer: where
other programs keep a core, each waits for the other, and an analysis takes a third longer than with
a pass on each core. On a quiet machine both take the same time (`research/RESULTS.md`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from lesionlens.network.steady import by_threads, thread_count

T = TypeVar("T")
R = TypeVar("R")
_AT_MOST = 4
"""Passes at once; more would need more memory than they save time."""


def side_by_side(run: Callable[[T], R], inputs: Sequence[T]) -> Iterator[R]:
    """Yield what `run` makes of each input, in order; an odd last one by itself, by two threads.

    Parameters
    ----------
    run : callable
        One pass; called from threads other than the caller's, of one thread each. The odd one is
        run by the caller.
    inputs : sequence
        What it is called with.

    Raises
    ------
    Exception
        What a pass raises; those not begun are left out, and none is running afterwards.
    """
    paired = len(inputs) - len(inputs) % 2
    at_once = min(thread_count(), paired, _AT_MOST)
    if at_once > 1:
        yield from _in_a_pool(run, inputs[:paired], at_once)
    else:
        for one in inputs[:paired]:
            with by_threads(1):
                answer = run(one)
            yield answer
    for one in inputs[paired:]:
        with by_threads(2):
            answer = run(one)
        yield answer


def _in_a_pool(run: Callable[[T], R], inputs: Sequence[T], at_once: int) -> Iterator[R]:
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(at_once, "pass", torch.set_num_threads, (1,))
    try:
        yield from pool.map(run, inputs)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)  # threads begun later take the last number that was set
