"""Scans dropped anywhere on napari's window are opened at once.

napari's own reader claims every folder, so that napari asks for each dropped folder which reader
to use, and opens several dropped files as a study each. While the panel is there, it takes files
and folders before napari sees them and says what is wrong with those that are no scans, as it does
of a drop on itself. A drop with Alt held (napari's sign for "let me choose") goes to napari.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from qtpy.QtCore import QEvent, QMimeData, QObject, Qt
from qtpy.QtGui import QDragLeaveEvent, QGuiApplication
from qtpy.QtWidgets import QApplication, QLineEdit, QMainWindow, QWidget

Takes = Callable[[Sequence[Path]], object]


def local_paths(mime: QMimeData) -> tuple[Path, ...]:
    """Return the files and folders of a drop; empty if any of it is none of this machine."""
    urls = mime.urls()
    if not all(url.isLocalFile() for url in urls):
        return ()
    return tuple(Path(url.toLocalFile()) for url in urls)


class Drops(QObject):
    """Hands to `takes` what is dropped on some widgets.

    Parameters
    ----------
    targets : sequence of QWidget
        Those that accept drops.
    takes : callable
        Takes the paths.
    parent : QObject
        Lives as long as this.
    """

    def __init__(self, targets: Sequence[QWidget], takes: Takes, parent: QObject) -> None:
        super().__init__(parent)
        self._takes: Takes | None = takes
        for target in targets:
            target.installEventFilter(self)

    def release(self) -> None:
        """Leave the widgets to themselves; those of a closed window are gone already."""
        self._takes = None
        self.deleteLater()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Take a drop of scans."""
        if event.type() != QEvent.Type.Drop or self._takes is None:
            return False
        alt = QGuiApplication.keyboardModifiers() & Qt.KeyboardModifier.AltModifier
        paths = local_paths(event.mimeData())
        if alt or not paths:
            return False
        self._takes(paths)
        event.acceptProposedAction()
        QApplication.sendEvent(watched, QDragLeaveEvent())  # its highlight goes
        return True


def canvas_of(window: QMainWindow) -> tuple[QWidget, ...]:
    """Return what accepts drops in the middle of a window."""
    middle = window.centralWidget()
    if middle is None:
        return ()
    inside = (middle, *middle.findChildren(QWidget))
    return tuple(w for w in inside if w.acceptDrops() and not isinstance(w, QLineEdit))
