"""Result of an exporter, the reason if it failed, and a base of exporters."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lesionlens.base.errors import (
    CancelledError,
    LesionLensError,
    PluginError,
    ResourceError,
    is_out_of_memory,
    os_reason,
)

if TYPE_CHECKING:
    from lesionlens.base.records.analysis import Analysis

logger = logging.getLogger(__name__)


class UnconditionalExporter:
    """Base of exporters that require neither packages nor particular input."""

    def missing(self, analysis: Analysis) -> str | None:
        """Return None: nothing is required."""
        del analysis
        return None


@dataclass(frozen=True, slots=True)
class Written:
    """Files written by an exporter, with notices and failures."""

    files: tuple[Path, ...]
    notices: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Files that could not be written, by their name below the result folder, and why."""


def reason_of(error: Exception) -> str:
    """Return why one file could not be written, so that the others can still be written.

    Raises
    ------
    Exception
        The error itself, if no other file could be written either: cancellation, or lack of memory
        or disk space.

    Examples
    --------
    >>> reason_of(LesionLensError(found="that 1.dcm is gone", expected="it", next_step="Copy it"))
    '1.dcm is gone'
    """
    is_os_error = isinstance(error, OSError) and not isinstance(
        error,
        LesionLensError | NotADirectoryError,  # of a library that looks below HOME=/dev/null
    )
    if isinstance(error, CancelledError | ResourceError) or is_os_error or is_out_of_memory(error):
        raise error
    logger.debug("a file of the result was left out", exc_info=error)
    if isinstance(error, PluginError):
        return error.brief
    if isinstance(error, LesionLensError):
        return error.found.removeprefix("that ")
    if isinstance(error, OSError):
        return f"a system error: {os_reason(error)}"
    return f"a defect of this program ({type(error).__name__}); please report it"
