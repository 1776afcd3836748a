"""The signals that end a command in order: Ctrl+C, SIGTERM, and SIGHUP of a closed terminal."""

from __future__ import annotations

import signal

SIGNALS: tuple[signal.Signals, ...] = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""Windows has no SIGHUP."""


def signals_to_handle() -> tuple[signal.Signals, ...]:
    """Return the signals at which this process stops: not SIGHUP if it is ignored (`nohup`)."""
    return tuple(
        number
        for number in SIGNALS
        if number.name != "SIGHUP" or signal.getsignal(number) is not signal.SIG_IGN
    )
