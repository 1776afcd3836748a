"""Lines of progress, flushed at once, so that they also appear in a file or pipe."""

from __future__ import annotations

import sys


def print_line(text: str) -> None:
    """Print a line to standard output."""
    print(text, flush=True)


def print_progress(text: str) -> None:
    """Print a line to standard error."""
    print(text, file=sys.stderr, flush=True)
