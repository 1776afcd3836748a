"""Verbosity and log file: options of every command."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from typing_extensions import override

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.run_context import REPORT
from lesionlens.cli.console import QUIET, plain


class _LineFormatter(logging.Formatter):
    """One line a message: the name of a folder cannot forge another, nor control a terminal."""

    @override
    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = plain(" ".join(record.message.split("\n")))
        return super().formatMessage(record)


_LINE_FORMATTER = _LineFormatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S")
_NO_LOGS = frozenset({".csv", ".html", ".json", ".toml", ".tsv"})
"""Suffixes of text files that appended lines would damage."""
_START_BYTES = 65_536
_PACKAGE_LOGGER = logging.getLogger("lesionlens")


@dataclass(frozen=True, slots=True)
class Verbosity:
    """The options; each field is an option of every command."""

    verbose: Annotated[
        int,
        typer.Option(
            "--verbose",
            "-v",
            count=True,
            show_default=False,
            help="Report each stage on stderr; -vv: all details.",
        ),
    ] = 0
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print only errors and the output of --json.")
    ] = False
    log_file: Annotated[
        Path | None,
        typer.Option(help="Append times, stages, notes and errors to this file.", metavar="FILE"),
    ] = None
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback and library warnings when it fails.")
    ] = False

    def choice(self) -> Verbosity:
        """Return the options themselves."""
        return self

    @property
    def all_details(self) -> bool:
        """Whether libraries' warnings are shown too."""
        return self.debug or self.verbose > 1

    @property
    def terminal_level(self) -> int:
        """The lowest level that stderr shows."""
        if self.quiet:
            return logging.CRITICAL
        if self.all_details:
            return logging.DEBUG
        return logging.INFO if self.verbose else REPORT


class _LogFile(logging.FileHandler):
    """A log file; a full disk affects only the log, and is reported once, at the end."""

    failure: OSError | None = None
    """The first error of writing."""

    @override
    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exception()
        if not isinstance(error, OSError):
            super().handleError(record)
        self.failure = self.failure or (error if isinstance(error, OSError) else None)

    @override
    def close(self) -> None:
        try:
            super().close()
        except OSError as error:
            self.failure = self.failure or error


@contextmanager
def logging_with(verbosity: Verbosity, report: Callable[[str], object]) -> Iterator[None]:
    """Configure logging within the block.

    Parameters
    ----------
    report : callable
        Called with the message if the log file could not be written completely.

    Raises
    ------
    UnusableInputError
        Options contradict each other, or the log file cannot be written.
    """
    if verbosity.quiet and (verbosity.verbose or verbosity.debug):
        raise UnusableInputError(
            "--quiet excludes --verbose and --debug.",
        )
    handlers = [_terminal_handler(verbosity)]
    if verbosity.log_file is not None:
        handlers.append(_file_handler(verbosity.log_file, verbosity))
    root = logging.getLogger()
    silent = logging.NullHandler()  # otherwise Python prints warnings of libraries
    previous_level = _PACKAGE_LOGGER.level
    QUIET.set(verbosity.quiet)
    root.addHandler(silent)
    for handler in handlers:
        (root if verbosity.all_details else _PACKAGE_LOGGER).addHandler(handler)
    _PACKAGE_LOGGER.setLevel(min(handler.level for handler in handlers))
    if not verbosity.all_details:
        warnings.simplefilter("ignore")
        logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)  # prints by itself
    try:
        yield
    finally:
        QUIET.set(False)
        _PACKAGE_LOGGER.setLevel(previous_level)
        root.removeHandler(silent)
        for handler in handlers:
            root.removeHandler(handler)
            _PACKAGE_LOGGER.removeHandler(handler)
            handler.close()
            if isinstance(handler, _LogFile) and handler.failure is not None:
                report(_incomplete(verbosity.log_file, handler.failure))


def _terminal_handler(verbosity: Verbosity) -> logging.Handler:
    """Return stderr's handler; on a terminal the progress bar replaces the default lines."""
    handler = logging.StreamHandler(sys.stderr)
    level = verbosity.terminal_level
    handler.setLevel(logging.CRITICAL if level == REPORT and sys.stderr.isatty() else level)
    handler.setFormatter(_LINE_FORMATTER)
    return handler


def _incomplete(path: Path | None, error: OSError) -> str:
    return (
        f"Found a log file that could not be written completely: {path} ({error.strerror}). "
        "Expected free space for it. Free some space, or name another with --log-file; only the "
        "log is incomplete."
    )


def _file_handler(path: Path, verbosity: Verbosity) -> logging.Handler:
    if not _may_be_log(path):
        raise UnusableInputError(
            f"{path} is not a log, so nothing is appended to it.",
            hint="Name another file with --log-file.",
        )
    try:
        handler = _LogFile(path, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise UnusableInputError(
            f"Cannot write the log file {path}: {error.strerror}.",
            hint="Name another with --log-file.",
        ) from error
    handler.setLevel(logging.DEBUG if verbosity.all_details else logging.INFO)
    handler.setFormatter(_LINE_FORMATTER)
    return handler


def _may_be_log(path: Path) -> bool:
    """Return whether lines may be appended: not to an image, a table, a page or settings."""
    if not path.is_file() or not os.access(path, os.R_OK):
        return True
    with path.open("rb") as stream:
        start = stream.read(_START_BYTES)
    return not start or (b"\0" not in start and path.suffix.lower() not in _NO_LOGS)


def error_fields(error: BaseException, status: int, message: str) -> Mapping[str, Any]:
    """Return the JSON object that `--json` prints for a failure.

    Examples
    --------
    >>> error_fields(KeyboardInterrupt(), 130, "Interrupted.")["error"]["status"]
    130
    """
    details = {name: getattr(error, name, None) for name in ("found", "expected", "next_step")}
    error_name = type(error).__name__
    return {"error": {"status": status, "kind": error_name, "message": message, **details}}
