"""Menus that are filled whenever they are shown: recently opened paths, other series."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from qtpy.QtWidgets import QMenu, QWidget

from lesionlens.imaging.preparation.display_images import kind_of
from lesionlens.imaging.reading.open import distinct_names
from lesionlens.napari.commands.table import BY_NAME
from lesionlens.napari.controllers.other_image_acts import OtherImageActs
from lesionlens.napari.model.studies import recent_paths
from lesionlens.napari.widgets.parts import verbatim


def recent_menu(parent: QWidget, title: str, kind: str, then: Callable[[Path], object]) -> QMenu:
    """Return a menu of recent paths; `kind` is `recent_paths.STUDIES` or `recent_paths.LISTS`."""

    def fill(menu: QMenu) -> None:
        for path in recent_paths.recall(kind):
            _add(menu, f"{path.name}  ({path.parent})", partial(then, path))
        if menu.isEmpty():
            menu.addAction("Nothing yet").setEnabled(False)

    return _filled_when_shown(QMenu(parent, title), fill)


def other_menu(parent: QWidget, acts: OtherImageActs) -> QMenu:
    """Return a menu of the study's other series and of the subtraction."""

    def fill(menu: QMenu) -> None:
        _add(menu, BY_NAME["show_subtraction"].hint("T1c - T1"), acts.show_subtraction)
        all_series = acts.other_series()
        for number, name in enumerate(distinct_names(all_series)):
            kind = kind_of(all_series[number])
            _add(menu, f"{kind}: {name}", partial(acts.show_other, number))

    return _filled_when_shown(QMenu(parent, "Other series"), fill)


def _filled_when_shown(menu: QMenu, fill: Callable[[QMenu], None]) -> QMenu:
    menu.aboutToShow.connect(menu.clear)
    menu.aboutToShow.connect(partial(fill, menu))
    return menu


def _add(menu: QMenu, text: str, callback: Callable[[], object]) -> None:
    action = menu.addAction(verbatim(text))
    action.triggered.connect(lambda _=False: callback())
