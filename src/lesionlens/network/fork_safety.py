"""Compute in a process that was forked from one that had already computed.

`multiprocessing` forks on Linux. libgomp, used by torch, keeps a pool of worker threads for each
computing thread; these do not exist in the forked process, where the copied thread waits for them
forever (https://gcc.gnu.org/bugzilla/show_bug.cgi?id=60035). A new thread gets a new pool.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
_imported_in = os.getpid()


def fork_safe(function: Callable[P, R]) -> Callable[P, R]:
    """Run a function in a new thread wherever this process was forked from another."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        if os.getpid() == _imported_in:
            return function(*args, **kwargs)
        with ThreadPoolExecutor(1, "forked") as pool:
            return pool.submit(function, *args, **kwargs).result()

    return run
