"""A menu of the study's other series and of the subtraction."""

from __future__ import annotations

from functools import partial

from qtpy.QtWidgets import QMenu, QWidget

from lesionlens.imaging.preparation.other_images import kind_of
from lesionlens.napari.commands.table import BY_NAME
from lesionlens.napari.controllers.beside_acts import BesideActs


def other_menu(parent: QWidget, acts: BesideActs) -> QMenu:
    """Return a menu of the other images, filled whenever it is shown."""
    menu = QMenu("Other series", parent)

    def fill() -> None:
        menu.clear()
        subtraction = menu.addAction(BY_NAME["show_subtraction"].hint("T1c - T1"))
        subtraction.triggered.connect(lambda _=False: acts.show_subtraction())
        for number, series in enumerate(acts.other_series()):
            action = menu.addAction(f"{kind_of(series)}: {series.description}")
            action.triggered.connect(partial(_show, acts, number))

    menu.aboutToShow.connect(fill)
    return menu


def _show(acts: BesideActs, number: int, _: bool = False) -> None:
    acts.show_other(number)
