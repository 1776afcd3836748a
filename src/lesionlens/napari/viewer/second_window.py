"""A second window of linked views, for a second monitor, with the same viewpoint and windows."""

from __future__ import annotations

from dataclasses import replace

from qtpy.QtCore import QEvent, QObject, QPoint, Qt, Signal
from qtpy.QtGui import QCloseEvent
from qtpy.QtWidgets import QApplication, QMenu, QVBoxLayout, QWidget

from lesionlens.napari.model.screen.board import Board
from lesionlens.napari.viewer.board_view import BoardView

_DEFAULT_SIZE = (900, 800)
_TITLE_BAR = QPoint(40, 40)
"""Room for the title bar, at most, in pixels."""
_PALETTE_COMMAND = "napari.window.view.toggle_command_palette"
TITLE = "LesionLens: second window"


class SecondWindow(QWidget):
    """A separate window with linked views; it shares the keys of the first window.

    `parent` is any widget of the first window.
    """

    closed = Signal()

    def __init__(self, view: BoardView, parent: QWidget) -> None:
        super().__init__(parent, Qt.WindowType.Window)
        self.view = view
        self._is_placed = False
        parent.window().installEventFilter(self)
        menus = parent.window().findChildren(QMenu)
        for palette in (action for menu in menus for action in menu.actions()):
            if palette.objectName() == _PALETTE_COMMAND:
                self.addAction(palette)  # else the letters typed into it would be commands
                palette.triggered.connect(self._activate_first)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(view)

    def show_board(self, board: Board) -> None:
        """Show the second window's tiles of a board; without any, hide."""
        if not board.second_window:
            self.hide()
            return
        self.setWindowTitle(" · ".join((TITLE, *board.corner[-1:])))
        self.view.show_board(replace(board, tiles=board.second_window))
        if self.isHidden():
            self._set_geometry()
            self.view.setFocus()  # keys work as soon as the window is active
            self.show()

    def _activate_first(self) -> None:
        """Activate the first window, so that it receives the next keys."""
        self.parentWidget().window().activateWindow()

    def _set_geometry(self) -> None:
        """Fill a second monitor, or part of the only one; keep a position that the reader chose.

        A window whose monitor was disconnected is placed again.
        """
        screens, centre = QApplication.screens(), self.geometry().center()
        if self._is_placed and any(screen.geometry().contains(centre) for screen in screens):
            return
        first_screen = self.parentWidget().window().screen()
        other_screens = [screen for screen in screens if screen is not first_screen]
        self.setWindowState(Qt.WindowState.WindowNoState)
        self.resize(*_DEFAULT_SIZE)
        if other_screens or self._is_placed:
            screen = (other_screens or screens)[0]
            self.move(screen.availableGeometry().topLeft() + _TITLE_BAR)
        if other_screens:  # not by its size: the title bar would be above the screen
            self.setWindowState(Qt.WindowState.WindowMaximized)
        self._is_placed = True

    def eventFilter(self, _: QObject, event: QEvent) -> bool:
        """Block clicks and keys while a dialog of the first window waits for an answer."""
        if event.type() in (QEvent.Type.WindowBlocked, QEvent.Type.WindowUnblocked):
            self.setEnabled(event.type() == QEvent.Type.WindowUnblocked)
            if self.isEnabled():
                self.view.setFocus()  # disabling the window removed the focus
        return False

    def closeEvent(self, event: QCloseEvent) -> None:
        """Signal that the reader closed the window."""
        super().closeEvent(event)
        self.closed.emit()
