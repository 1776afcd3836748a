"""Reports that a window is closed for good, while it can still act."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import QCoreApplication, QEvent, QObject, Qt, Signal
from qtpy.QtWidgets import QMainWindow, QWidget


class WindowClosing(QObject):
    """Reports the end of a window: its deletion, or the end of the application.

    A reader's close event does not end the window, as napari then asks whether to close; and the
    last window is not deleted before the application ends. A script's `viewer.close()` deletes the
    window immediately, without an event.

    Parameters
    ----------
    window : QMainWindow
        Window that is deleted when it is closed, as napari's is.
    may_close : callable
        Whether the reader may close the window; called before napari asks.
    """

    closing = Signal()

    def __init__(
        self, window: QMainWindow, parent: QObject, may_close: Callable[[], bool] = lambda: True
    ) -> None:
        super().__init__(parent)
        self._may_close = may_close
        window.installEventFilter(self)
        app = QCoreApplication.instance()
        if app is not None:
            app.aboutToQuit.connect(self.closing)

    def eventFilter(self, watched: QMainWindow, event: QEvent) -> bool:
        """Report the window's deletion before it takes place, or refuse a reader's close."""
        closes = event.type() == QEvent.Type.Close
        if closes and _by_reader(watched, event) and not self._may_close():
            event.ignore()
            return True
        closed = closes and not event.spontaneous()
        deleted = closed and watched.testAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        if deleted or event.type() == QEvent.Type.DeferredDelete:
            self.closing.emit()
        return False


def _by_reader(window: QMainWindow, close: QEvent) -> bool:
    """Whether a reader closes the window, by its frame or by a menu or key of napari.

    Qt takes the latter for a script's. But `viewer.close()` hides the image first.
    """
    central = window.centralWidget()
    shown = central is not None and any(w.isVisible() for w in central.findChildren(QWidget))
    return close.spontaneous() or shown
