"""napari's reader: a folder of NIfTI or DICOM, or a NIfTI file, as one image layer per sequence.

Heavy packages are imported only when a path is read. Folders are checked quickly by their first
names and bytes, as napari offers every folder to every reader.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from lesionlens.napari.loading import LayerData, read_study, study_paths

NO_LAYERS: list[Any] = [(None,)]
"""Return value for a read without layers, by napari's convention."""


def get_reader(path: str | list[str]) -> Callable[[str | list[str]], list[LayerData]] | None:
    """Return the reading function, or None if the path is not a study.

    Parameters
    ----------
    path : str or list of str
        Opened or dropped paths; several (a stack in napari) form one study.
    """
    return read if study_paths(path if isinstance(path, list) else [path]) else None


def read(path: str | list[str]) -> list[LayerData]:
    """Read a study for `viewer.open` while the window keeps painting.

    If a decision of the reader is needed in an open window, no layer is returned: the panel asks,
    and then opens the study.

    Raises
    ------
    UnusableInputError
        Nothing at the path can be used.
    """
    requested = path if isinstance(path, list) else [path]
    paths = study_paths(requested) or tuple(Path(item) for item in requested)
    if "qtpy" not in sys.modules:
        return read_study(paths)
    from lesionlens.base.errors import PatientConflictError
    from lesionlens.imaging.reading.open import (
        SeveralStudiesError,
        UndecidedSeriesError,
    )
    from lesionlens.napari.qt.waiting import run_while_painting, when_idle
    from lesionlens.results.review.reopen import result_of

    result = result_of([Path(item) for item in requested])
    if result is not None and _window().reopen_in_panel(result):
        return NO_LAYERS
    try:
        layers = run_while_painting(lambda: read_study(paths))
    except (SeveralStudiesError, UndecidedSeriesError, PatientConflictError) as error:
        if not _window().ask_in_panel(paths, error):
            raise
        return NO_LAYERS
    when_idle(lambda: _window().offer_panel())
    return layers


def _window() -> ModuleType:
    """Return the module that knows the panel: it takes a second to import."""
    from lesionlens.napari import current_window

    return current_window
