"""A second window of linked views, for a second monitor: the same place, zoom and brightness."""

from __future__ import annotations

from dataclasses import replace

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QCloseEvent
from qtpy.QtWidgets import QApplication, QVBoxLayout, QWidget

from lesionlens.napari.model.screen.board import Board
from lesionlens.napari.viewer.board_view import BoardView

_SIZE = (900, 800)
TITLE = "LesionLens: second window"


class Beside(QWidget):
    """Holds linked views in a window of its own; it belongs to the first one, whose keys it has.

    Parameters
    ----------
    view : BoardView
        What it shows; made for it alone.
    parent : QWidget
        Anything in the first window.
    """

    closed = Signal()
    """The reader closed it."""

    def __init__(self, view: BoardView, parent: QWidget) -> None:
        super().__init__(parent, Qt.WindowType.Window)
        self.setObjectName("lesionlens_beside")
        self.view = view
        view.follows = True
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(view)

    def show_board(self, board: Board) -> None:
        """Show the tiles of a board that are beside its own; without any, close."""
        if not board.beside:
            self.hide()
            return
        self.setWindowTitle(" · ".join((TITLE, *board.corner[-1:])))
        self.view.show_board(replace(board, tiles=board.beside))
        if self.isHidden():
            self._place()
            self.show()

    def _place(self) -> None:
        """Fill another monitor than the first window's; on one alone, take part of it."""
        first = self.parentWidget().window().screen()
        others = [screen for screen in QApplication.screens() if screen is not first]
        if others:
            self.setGeometry(others[0].availableGeometry())
        else:
            self.resize(*_SIZE)

    def closeEvent(self, event: QCloseEvent) -> None:
        """Signal that the reader closed it."""
        super().closeEvent(event)
        self.closed.emit()
