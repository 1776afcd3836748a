"""Reports that a window is closed for good, while it can still act."""

from __future__ import annotations

from qtpy.QtCore import QCoreApplication, QEvent, QObject, Signal
from qtpy.QtWidgets import QMainWindow


class WindowClosing(QObject):
    """Reports the end of a window: its deletion, or the end of the application.

    A close event is no such end, as the reader may decline it; and the last window is not deleted
    before the application ends.

    Parameters
    ----------
    window : QMainWindow
        Window that is deleted when it is closed, as napari's is.
    parent : QObject
        Owner of this object.
    """

    closing = Signal()

    def __init__(self, window: QMainWindow, parent: QObject) -> None:
        super().__init__(parent)
        window.installEventFilter(self)
        app = QCoreApplication.instance()
        if app is not None:
            app.aboutToQuit.connect(self.closing)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: ARG002
        """Report the window's deletion before it takes place."""
        if event.type() == QEvent.Type.DeferredDelete:
            self.closing.emit()
        return False
