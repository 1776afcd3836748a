"""Reports that a window is closed for good, while it can still act."""

from __future__ import annotations

from qtpy.QtCore import QCoreApplication, QEvent, QObject, Qt, Signal
from qtpy.QtWidgets import QMainWindow


class WindowClosing(QObject):
    """Reports the end of a window: its deletion, or the end of the application.

    The close event of a reader is no such end, as napari then asks whether to close; and the last
    window is not deleted before the application ends. A script's `viewer.close()` deletes the
    window at once, without an event.

    Parameters
    ----------
    window : QMainWindow
        Window that is deleted when it is closed, as napari's is.
    """

    closing = Signal()

    def __init__(self, window: QMainWindow, parent: QObject) -> None:
        super().__init__(parent)
        window.installEventFilter(self)
        app = QCoreApplication.instance()
        if app is not None:
            app.aboutToQuit.connect(self.closing)

    def eventFilter(self, watched: QMainWindow, event: QEvent) -> bool:
        """Report the window's deletion before it takes place."""
        closed = event.type() == QEvent.Type.Close and not event.spontaneous()
        deleted = closed and watched.testAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        if deleted or event.type() == QEvent.Type.DeferredDelete:
            self.closing.emit()
        return False
