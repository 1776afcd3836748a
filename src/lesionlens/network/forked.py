"""Computing in a process that was forked from one that had computed before.

`multiprocessing` forks on Linux. libgomp, by which torch computes, keeps the worker threads of each
thread that asked for some; in the forked process these are gone, and the thread that was copied
waits for them for ever (https://gcc.gnu.org/bugzilla/show_bug.cgi?id=60035). A new thread gets its
own.
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


def works_when_forked(function: Callable[P, R]) -> Callable[P, R]:
    """Run a function in a new thread wherever this process was forked from another."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        if os.getpid() == _imported_in:
            return function(*args, **kwargs)
        with ThreadPoolExecutor(1, "forked") as pool:
            return pool.submit(function, *args, **kwargs).result()

    return run
