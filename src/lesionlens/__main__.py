"""The command line: `lesionlens`, or `python -m lesionlens` with another Python.

The handlers of the signals are installed before most imports: importing the command line takes half
a second, on a busy machine several.
"""

from __future__ import annotations

import signal
import sys
from typing import Any

from lesionlens.base.errors import INTERRUPTED, Interrupt
from lesionlens.base.process import signals_to_handle, write_line


def run() -> int:
    """Run the command line of this process; returns or raises SystemExit with the exit status."""
    received_signals = []

    def stop(number: int, frame: Any) -> None:
        del frame
        received_signals.append(number)
        raise Interrupt

    for number in signals_to_handle():
        signal.signal(number, stop)
    try:
        from lesionlens.cli.main import run as run_command

        if not received_signals:  # Python discards an interrupt in the callback of a weakref
            return run_command()  # which soon has handlers of its own
    except (Exception, KeyboardInterrupt):  # an import may turn the interrupt into another error
        if not received_signals:
            raise
    write_line(f"lesionlens: {INTERRUPTED}", sys.stderr)
    return 130


if __name__ == "__main__":
    sys.exit(run())
