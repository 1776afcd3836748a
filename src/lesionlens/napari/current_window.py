"""Access of napari's reader to the panel of the current window, if there is one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import napari
from npe2 import PluginManager

from lesionlens.base.errors import UnusableInputError
from lesionlens.napari.dock import LesionLens, open_panel
from lesionlens.napari.model.state.state import Request
from lesionlens.napari.preferences import read_preferences
from lesionlens.napari.qt.waiting import when_idle


def ask_in_panel(paths: tuple[Path, ...], error: UnusableInputError) -> bool:
    """Ask the reader in the panel for a decision needed to open a study.

    Returns
    -------
    bool
        False if there is no window.
    """

    def ask(panel: LesionLens) -> None:
        # during a job the study could not be opened after the decision either
        if not panel.session.refuses(panel.jobs.busy_reason):
            panel.actions_.opener.handle_error(Request.of(paths), error)

    return _in_panel(ask)


def reopen_in_panel(result: Path) -> bool:
    """Reopen a saved result; False if there is no window."""
    return _in_panel(lambda panel: panel.actions_.reopen(result))


def offer_panel() -> None:
    """Open the panel if the preferences say so."""
    viewer = _viewer()
    if viewer is not None and read_preferences().open_panel:
        open_panel(viewer)


def _in_panel(act: Callable[[LesionLens], object]) -> bool:
    viewer = _viewer()
    if viewer is None:
        return False
    when_idle(lambda: act(open_panel(viewer)))
    return True


def _viewer() -> napari.Viewer | None:
    return napari.current_viewer() if "lesionlens" in PluginManager.instance() else None
