"""The layout chosen last for each kind of study, stored in the user's data folder."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from lesionlens.base import user_folders
from lesionlens.base.atomic_file import write_atomically
from lesionlens.base.bounded_read import read_object, set_aside_damaged
from lesionlens.base.records.study import Study
from lesionlens.napari.model.choices.views import Layout
from lesionlens.napari.model.screen.board import kind_of

logger = logging.getLogger(__name__)


def place() -> Path:
    """Return the path of the stored layouts."""
    return user_folders.data() / "views.json"


def remember(study: Study, layout: Layout) -> None:
    """Store the layout for studies of this kind; a failure is only logged."""
    known = _known()
    if known.get(kind_of(study)) == layout.value:
        return
    known[kind_of(study)] = layout.value
    try:
        if set_aside_damaged(place(), lambda content: isinstance(content, dict)):
            logger.warning("the list of remembered views was damaged; a copy was kept")
        write_atomically(place(), json.dumps(known, indent=1))
    except OSError:
        logger.warning("the views could not be saved")


def recall(study: Study) -> Layout | None:
    """Return the layout chosen last for a study of this kind, or None."""
    try:
        return Layout(_known()[kind_of(study)])
    except (KeyError, ValueError):
        return None


def _known() -> dict[str, str]:
    return {str(kind): str(layout) for kind, layout in read_object(place()).items()}
