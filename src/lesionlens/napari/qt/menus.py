"""Menus of the panel, the list and the toolbar."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QMenu, QWidget


class Menu(QMenu):
    """A menu from left to right on any desktop, as its texts are English.

    Each is a window, to which the direction of its parent does not apply.
    """

    def __init__(self, parent: QWidget, title: str = "") -> None:
        super().__init__(title, parent)
        self.setLayoutDirection(Qt.LayoutDirection.LeftToRight)
