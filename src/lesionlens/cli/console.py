"""Output, progress, interruption and terminal-safe text of every command."""

from __future__ import annotations

import json
import logging
import re
import signal
import sys
import threading
import time
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO, cast

from lesionlens.base.errors import Interrupt
from lesionlens.base.process import LossyStream, signals_to_handle
from lesionlens.base.run_context import Progress, RunContext, no_progress

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table


@dataclass(frozen=True, slots=True)
class CommandOutput:
    """The output of a finished command."""

    output: tuple[RenderableType, ...] = ()
    """Tuple of str or rich renderable. For stdout, in this order; a str is printed as it is."""
    notes: tuple[str, ...] = ()
    """For stderr: what the user must know."""
    status: int = 0

    @classmethod
    def of_json(cls, content: Any, notes: tuple[str, ...] = (), status: int = 0) -> CommandOutput:
        """Return an answer that prints one JSON value, as `--json` does."""
        return cls((json.dumps(content, indent=1),), notes, status)


class StopRequest(threading.Event):
    """A request to stop (SIGINT, SIGTERM, SIGHUP).

    The first signal raises KeyboardInterrupt on the main thread; the request stays set for
    workers. Later signals are ignored until the state is saved.
    """

    def __init__(self) -> None:
        super().__init__()
        self._raise_interrupt = True
        self.output_printed = False
        """Whether the outcome was printed."""

    def record_only(self) -> None:
        """From now on only record the request: the work polls it and saves its state."""
        self._raise_interrupt = False

    def install_handlers(self) -> None:
        """Install handlers for these signals (main thread only).

        Nothing is printed of an interrupt in a callback, where Python ignores it: the work polls
        the request.
        """
        sys.unraisablehook = _report_unraisable
        for number in signals_to_handle():
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: Any) -> None:
        del number, frame
        if not self.is_set():
            self.set()
            if self._raise_interrupt:
                raise Interrupt


_former_hook = sys.unraisablehook


def _report_unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    if not issubclass(unraisable.exc_type, Interrupt):
        _former_hook(unraisable)


logger = logging.getLogger(__name__)
_NUMBERS = re.compile(r"[\d.]+")
_LOG_INTERVAL_S = 30.0
"""Seconds between the lines of one stage in a log."""
QUIET: ContextVar[bool] = ContextVar("QUIET", default=False)
"""Whether the progress bar is switched off."""
STOP = StopRequest()
"""Stop request of this process."""


def plain(text: str) -> str:
    """Make text of unknown origin safe for a terminal: no control or direction characters.

    Examples
    --------
    >>> plain("T1 " + chr(27) + "[31mred")
    'T1 [31mred'
    """
    if text.isprintable():
        return text
    return "".join(c for c in text if c == "\n" or unicodedata.category(c) not in ("Cc", "Cf"))


def new_table(headings: Sequence[str], text_columns: int = 1) -> Table:
    """Return an empty table; its text columns come first and fold on narrow terminals.

    Parameters
    ----------
    headings : sequence of str
        One per column.
    text_columns : int
        Number of text columns; the others hold numbers, which are never cut.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for index, heading in enumerate(headings):
        is_number = index >= text_columns
        table.add_column(
            heading, justify="right" if is_number else "left", no_wrap=is_number, overflow="fold"
        )
    return table


@contextmanager
def progress_bar() -> Iterator[RunContext]:
    """Within the block, show stages on stderr if it is a terminal, log them, and check STOP."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    stage = TextColumn("{task.description:<24}", markup=False)
    columns = (stage, BarColumn(), TimeElapsedColumn())
    console = Console(file=cast("TextIO", LossyStream(sys.stderr)))
    if not console.is_terminal or QUIET.get():
        yield RunContext(_with_log(no_progress), STOP)
        return
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=1.0)

        def report(stage: str, fraction: float) -> None:
            bar.update(task, description=plain(stage), completed=min(max(fraction, 0.0), 1.0))

        yield RunContext(_with_log(report), STOP)


def _with_log(progress: Progress) -> Progress:
    """Log each stage when it starts, and at intervals while its steps are counted."""
    last_stage, next_log = "", 0.0

    def report(stage: str, fraction: float) -> None:
        nonlocal last_stage, next_log
        stage_name, time_s = _NUMBERS.sub("", stage), time.monotonic()
        if stage_name != last_stage or time_s >= next_log:
            logger.info("%s", plain(stage))
            last_stage, next_log = stage_name, time_s + _LOG_INTERVAL_S
        progress(stage, fraction)

    return report
