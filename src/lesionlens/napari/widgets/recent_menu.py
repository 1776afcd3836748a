"""A menu of recently opened paths."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from qtpy.QtWidgets import QMenu, QWidget

from lesionlens.napari.model.studies import recent


def recent_menu(parent: QWidget, words: str, kind: str, then: Callable[[Path], object]) -> QMenu:
    """Return a menu of recent paths, filled whenever it is shown.

    Parameters
    ----------
    parent : QWidget
        Owner.
    words : str
        Title.
    kind : str
        `recent.STUDIES` or `recent.LISTS`.
    then : callable
        Takes the chosen path.
    """
    menu = QMenu(words, parent)

    def fill() -> None:
        menu.clear()
        for path in recent.recall(kind):
            action = menu.addAction(f"{path.name}  ({path.parent})")
            action.triggered.connect(partial(_chosen, then, path))
        if menu.isEmpty():
            menu.addAction("Nothing yet").setEnabled(False)

    menu.aboutToShow.connect(fill)
    return menu


def _chosen(then: Callable[[Path], object], path: Path, _: bool = False) -> None:
    then(path)
