"""What an exporter wrote, and what happened to an exporter that could not."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lesionlens.base.errors import (
    CancelledError,
    LesionLensError,
    PluginError,
    ResourceError,
    is_lack_of_memory,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Written:
    """What an exporter wrote, where there is more to say than the names of files."""

    files: tuple[Path, ...]
    """In the staged folder."""
    notices: tuple[str, ...] = ()
    """What a reader must know of them."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Files that could not be written, by their name below the result folder, and why."""


def reason_of(error: Exception) -> str:
    """Return in words why one file could not be written, so that the others can be.

    Parameters
    ----------
    error : Exception
        What its writer raised.

    Raises
    ------
    Exception
        The error itself, where no other file could be written either: a stop was requested,
        or memory or the disk is full.
    """
    system = isinstance(error, OSError) and not isinstance(error, LesionLensError)
    if isinstance(error, CancelledError | ResourceError) or system or is_lack_of_memory(error):
        raise error
    logger.debug("a file of the result was left out", exc_info=error)
    if isinstance(error, PluginError):
        return error.brief
    if isinstance(error, LesionLensError):
        return error.found
    return f"a defect of this program ({type(error).__name__}); please report it"
