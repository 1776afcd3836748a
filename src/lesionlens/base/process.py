"""Signals that end a command in order, streams that may be lost, and the start of workers."""

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
from typing import Any, TextIO

SIGNALS: tuple[signal.Signals, ...] = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""Ctrl+C, SIGTERM, and SIGHUP of a closed terminal, which Windows lacks."""
_starting = threading.Lock()


def signals_to_handle() -> tuple[signal.Signals, ...]:
    """Return the signals at which this process stops: not SIGHUP if it is ignored (`nohup`)."""
    return tuple(
        number
        for number in SIGNALS
        if number.name != "SIGHUP" or signal.getsignal(number) is not signal.SIG_IGN
    )


def available_threads() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def write_line(text: str, stream: TextIO) -> None:
    """Write a line at once; if that is not possible, discard it and all that follows."""
    try:
        stream.write(f"{text}\n")
        stream.flush()
    except OSError:
        discard_output(stream)


def discard_output(stream: TextIO) -> None:
    """Redirect a stream that cannot be written to the null device: it is flushed at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class LossyStream:
    """A stream for displays that a command outlives: what cannot be written is discarded."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write or discard text; returns its length."""
        try:
            self._stream.write(text)
        except OSError:
            discard_output(self._stream)
        return len(text)

    def flush(self) -> None:
        """Flush the stream, or discard what it holds."""
        try:
            self._stream.flush()
        except OSError:
            discard_output(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Start processes in the block; none is interrupted until it calls `unblock_interrupts`."""
    if sys.platform == "win32":
        yield
    else:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def unblock_interrupts() -> None:
    """Receive the interrupts that the parent blocked, and those that came meanwhile."""
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


@contextmanager
def starting_workers() -> Iterator[None]:
    """Start workers in the block, which call `begin_worker` first.

    Ctrl-C reaches every process of a terminal: nothing interrupts their imports. The script of the
    parent does not run in them; without a guard it would start workers itself.
    """
    script = sys.modules["__main__"]
    with _starting:
        sys.modules["__main__"] = types.ModuleType("__main__")
        try:
            if sys.platform != "win32":
                from multiprocessing import resource_tracker

                with interrupts_blocked():
                    resource_tracker.ensure_running()  # its start unblocks the others
            with interrupts_blocked():
                yield
        finally:
            sys.modules["__main__"] = script


def begin_worker() -> None:
    """Leave interrupts to the parent; called first, on the main thread of a worker."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    unblock_interrupts()


def end_with_parent() -> None:
    """End this worker as soon as its parent has ended, for whatever reason."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            wait([parent.sentinel])
            os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()
