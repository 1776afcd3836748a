"""Small JSON files in the user's folders, which LesionLens can do without."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lesionlens.base.files.bounded_read import quarantine_damaged
from lesionlens.base.storage import write_atomically

logger = logging.getLogger(__name__)


def store(
    path: Path,
    content: object,
    what: str,
    is_whole: Callable[[Any], bool] = lambda found: isinstance(found, dict),
) -> None:
    """Replace a JSON file atomically; a failure is only logged.

    Parameters
    ----------
    what : str
        Names the content in the log.
    is_whole : callable
        Returns whether the earlier content is valid; a damaged file is renamed, not replaced.
    """
    try:
        if quarantine_damaged(path, is_whole):
            logger.warning("%s: the file was damaged and is kept under another name", what)
        write_atomically(path, json.dumps(content, indent=1))
    except OSError as error:
        logger.warning("%s could not be saved: %s", what, error.strerror)
