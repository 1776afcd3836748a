"""The layout chosen last for each kind of study, stored in the user's data folder."""

from __future__ import annotations

from pathlib import Path

from lesionlens.base import user_files, user_folders
from lesionlens.base.bounded_read import read_object
from lesionlens.base.records.study import Study
from lesionlens.napari.model.choices.views import Layout
from lesionlens.napari.model.screen.board import kind_of


def place() -> Path:
    """Return the path of the stored layouts."""
    return user_folders.data() / "views.json"


def remember(study: Study, layout: Layout) -> None:
    """Store the layout for studies of this kind; a failure is only logged."""
    known = _known()
    if known.get(kind_of(study)) == layout.value:
        return
    known[kind_of(study)] = layout.value
    user_files.store(place(), known, "the layouts of the views")


def recall(study: Study) -> Layout | None:
    """Return the layout chosen last for a study of this kind, or None."""
    try:
        return Layout(_known()[kind_of(study)])
    except (KeyError, ValueError):
        return None


def _known() -> dict[str, str]:
    return {str(kind): str(layout) for kind, layout in read_object(place()).items()}
