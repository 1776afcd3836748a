"""Run passes of a network side by side on the cores of one processor.

Two threads that share one pass meet after every layer: where other programs keep a core, each waits
for the other, and an analysis takes a third longer than with a pass on each core. On a quiet
machine both take the same time (`research/RESULTS.md`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from lesionlens.network.steady import thread_count

T = TypeVar("T")
R = TypeVar("R")
_AT_ONCE = 2
"""More would need more memory and bring little: each has its share of the threads."""


def side_by_side(run: Callable[[T], R], inputs: Sequence[T]) -> Iterator[R]:
    """Yield what `run` makes of each input, in order, two at a time; an odd last one by itself.

    Parameters
    ----------
    run : callable
        One pass; called from threads other than the caller's, each with half of the threads that
        torch has here. The odd one is run by the caller, with all of them.
    inputs : sequence
        What it is called with.

    Raises
    ------
    Exception
        What a pass raises; those not begun are left out, and none is running afterwards.
    """
    threads, before = thread_count(), torch.get_num_threads()
    if threads < _AT_ONCE or len(inputs) < _AT_ONCE:
        yield from map(run, inputs)
        return
    paired = len(inputs) - len(inputs) % _AT_ONCE
    pool = ThreadPoolExecutor(_AT_ONCE, "pass", torch.set_num_threads, (threads // _AT_ONCE,))
    try:
        yield from pool.map(run, inputs[:paired])
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)  # threads begun later take the last number that was set
    yield from map(run, inputs[paired:])
