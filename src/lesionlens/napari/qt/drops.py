"""Scans dropped on napari's window are opened directly.

napari's own reader claims every folder, so that napari asks which reader to use for each dropped
folder, and opens several dropped files separately. While the panel is open, it takes dropped files
and folders before napari does, and reports those that are not scans. A drop with Alt held (napari's
modifier for choosing a reader) goes to napari.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from qtpy.QtCore import QEvent, QMimeData, QObject, Qt
from qtpy.QtGui import QDragLeaveEvent, QGuiApplication
from qtpy.QtWidgets import QApplication, QLineEdit, QMainWindow, QWidget

DropHandler = Callable[[tuple[Path, ...]], object]


def local_paths(mime: QMimeData) -> tuple[Path, ...]:
    """Return the files and folders of a drop; empty unless all are local."""
    urls = mime.urls()
    if not all(url.isLocalFile() for url in urls):
        return ()
    return tuple(Path(url.toLocalFile()) for url in urls)


class Drops(QObject):
    """Passes paths dropped on widgets to `handler`."""

    def __init__(self, targets: Sequence[QWidget], handler: DropHandler, parent: QObject) -> None:
        super().__init__(parent)
        self._handler: DropHandler | None = handler
        for target in targets:
            target.installEventFilter(self)

    def release(self) -> None:
        """Remove the event filters; widgets of a closed window are already deleted."""
        self._handler = None
        self.deleteLater()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Accept a drop of scans."""
        if event.type() != QEvent.Type.Drop or self._handler is None:
            return False
        alt = QGuiApplication.keyboardModifiers() & Qt.KeyboardModifier.AltModifier
        paths = local_paths(event.mimeData())
        if alt or not paths:
            return False
        self._handler(paths)
        event.acceptProposedAction()
        QApplication.sendEvent(watched, QDragLeaveEvent())  # removes its highlight
        return True


def drop_targets(window: QMainWindow) -> tuple[QWidget, ...]:
    """Return the widgets that accept drops in the centre of a window."""
    central = window.centralWidget()
    if central is None:
        return ()
    widgets = (central, *central.findChildren(QWidget))
    return tuple(
        widget for widget in widgets if widget.acceptDrops() and not isinstance(widget, QLineEdit)
    )
