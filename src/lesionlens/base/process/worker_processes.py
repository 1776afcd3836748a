"""Child processes that no interrupt reaches too early; those of workers only their parent handles.

Ctrl-C reaches every process of a terminal, and a stopped service or cluster job every process of
its group: a worker that took it would print a traceback, and its parent wait for it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import types
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait

from lesionlens.base.process import interrupts

_starting = threading.Lock()
_SAFE_PATH, _SET_HERE = "PYTHONSAFEPATH", "lesionlens"
"""Python's variable, of which any value counts, and the value for workers."""


@contextmanager
def starting_workers() -> Iterator[None]:
    """Start workers within the block; they call `begin_worker` first.

    Nothing interrupts their imports, no script runs in them, and they import nothing from the
    working folder.
    """
    with _starting, _main_script_hidden(), _working_folder_hidden():
        if sys.platform != "win32":
            from multiprocessing import resource_tracker

            with interrupts_blocked():  # SIGHUP stays so in the tracker, which it would end
                resource_tracker.ensure_running()  # its start unblocks the others
        with interrupts_blocked():
            yield


@contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Let processes start without being interrupted while they import their modules.

    They call `unblock_interrupts` once they handle interrupts.
    """
    if sys.platform == "win32":
        yield
    else:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, interrupts.SIGNALS)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _main_script_hidden() -> Iterator[None]:
    """Let processes start without running the script of the parent again.

    `multiprocessing` imports it in each worker for the sake of functions defined in it. Without a
    guard it would start workers itself, and a script from standard input cannot be found.
    """
    script = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


@contextmanager
def _working_folder_hidden() -> Iterator[None]:
    """Let processes start without importing a file of the working folder.

    `multiprocessing` starts them by `python -c`, which looks there before the standard library: a
    study folder with a file `signal.py` would run it. An earlier value of the variable is kept.
    """
    is_unset = not os.environ.get(_SAFE_PATH)
    if is_unset:
        os.environ[_SAFE_PATH] = _SET_HERE
    try:
        yield
    finally:
        if is_unset:
            del os.environ[_SAFE_PATH]


def begin_worker() -> None:
    """Ignore interrupts, and restore the environment; called first, on the main thread."""
    if os.environ.get(_SAFE_PATH) == _SET_HERE:
        del os.environ[_SAFE_PATH]  # programs that the worker starts decide for themselves
    for number in interrupts.SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    unblock_interrupts()


def unblock_interrupts() -> None:
    """Receive the interrupts that the parent blocked, and those that came meanwhile."""
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, interrupts.SIGNALS)


def end_with_parent() -> None:
    """End this worker as soon as its parent has ended, for whatever reason."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            wait([parent.sentinel])
            os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()
