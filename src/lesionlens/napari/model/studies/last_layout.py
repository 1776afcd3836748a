"""The layout chosen last for each kind of study, stored in the user's data folder."""

from __future__ import annotations

from pathlib import Path

from lesionlens.base.files import read_object, user_data
from lesionlens.base.records.study import Study
from lesionlens.base.storage import store_json
from lesionlens.napari.model.choices.views import Layout
from lesionlens.napari.model.screen.board import kind_of


def layouts_file() -> Path:
    """Return the file in which the layouts are stored."""
    return user_data() / "views.json"


def remember(study: Study, layout: Layout) -> None:
    """Store the layout for studies of this kind; a failure is only logged."""
    layouts = _stored_layouts()
    if layouts.get(kind_of(study)) == layout.value:
        return
    layouts[kind_of(study)] = layout.value
    store_json(layouts_file(), layouts, "the layouts of the views")


def recall(study: Study) -> Layout | None:
    """Return the layout chosen last for a study of this kind, or None."""
    try:
        return Layout(_stored_layouts()[kind_of(study)])
    except (KeyError, ValueError):
        return None


def _stored_layouts() -> dict[str, str]:
    return {str(kind): str(layout) for kind, layout in read_object(layouts_file()).items()}
