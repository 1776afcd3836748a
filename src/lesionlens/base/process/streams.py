"""Writing to standard streams that may be lost: a closed pipe or terminal, a full disk."""

from __future__ import annotations

import os
from typing import Any, TextIO


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
