"""Space for the image: in a narrow window napari's docks are hidden in favour of the panel."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtGui import QResizeEvent
from qtpy.QtWidgets import QApplication, QDockWidget, QMainWindow, QWidget

from lesionlens.napari.qt.keyboard import main_window
from lesionlens.napari.qt.waiting import once_idle

CANVAS_SHARE = 0.6
"""Minimum share of the window's width for the image."""
_SPARE = 120  # extra pixels required to show the docks again, as they may need more than before
_MIN_IMAGE = 300
"""Width of the image that napari's controls leave while an outline is drawn, pixels."""
_SETTLED_MS = 250  # time for a new font to reach every dock
_CONTROLS = "layer controls"
_ASIDE = (_CONTROLS, "layer list")


class DockLayout(QObject):
    """Hides napari's layer docks while they would leave too little space for the image.

    A dock that the reader shows again (*Window* menu) stays. No widget is referenced, as that would
    keep the window alive.

    Parameters
    ----------
    panel : QWidget
        Docked panel; owner of this object.
    """

    def __init__(self, window: QMainWindow, panel: QWidget) -> None:
        super().__init__(panel)
        self._aside: tuple[str, ...] = ()
        self._taken = 0
        self._overruled = self._drawing = False
        self._kept: int | None = None
        self._later = once_idle(self._undo_growth, self, _SETTLED_MS)
        self._soon = once_idle(self.make, self)
        self._drawing_controls_due = once_idle(self._show_drawing_controls, self)
        self._fit_to_screen = once_idle(self._place, self, _SETTLED_MS)
        window.installEventFilter(self)

    def make(self) -> None:
        """Hide or show napari's docks by the width of the window."""
        panel = self.parent()
        window = main_window(panel)
        if window is None or window.centralWidget() is None or not isinstance(panel, QWidget):
            return
        if self._drawing:
            return
        shown = [dock for dock in _own(window) if dock.isVisible()]
        self._overruled |= any(dock.windowTitle() in self._aside for dock in shown)
        if self._overruled:
            return
        least = panel.minimumWidth()
        around = panel.parentWidget()
        if isinstance(around, QDockWidget):
            around.setMinimumWidth(0)  # Qt raised it for a larger font and does not lower it
            window.resizeDocks([around], [least], Qt.Orientation.Horizontal)
        if shown:
            self._taken = max(dock.width() for dock in shown)
        width = window.width() if self._kept is None else min(self._kept, window.width())
        wanted, free = CANVAS_SHARE * width, width - least - self._taken
        if shown and min(free, window.centralWidget().width()) < wanted:
            self._aside = tuple(dock.windowTitle() for dock in shown)
            for dock in shown:
                dock.hide()
        elif self._aside and free >= wanted + _SPARE:
            self._show_again(window)

    def draw(self, drawing: bool, *, wait: bool = False) -> None:
        """Show napari's controls while an outline is drawn: eraser, brush size and colours.

        They move the image, so they wait while it is pointed at.
        """
        window = main_window(self.parent())
        if window is None or drawing is self._drawing or self._overruled or (drawing and wait):
            return
        self._drawing = drawing
        if drawing:
            self._drawing_controls_due.start()
        else:
            self._show_drawing_controls()
            self.make()

    def _show_drawing_controls(self) -> None:
        """Show or hide the controls, once the other docks are laid out.

        On a screen without room for them they stay in napari's *Window* menu.
        """
        window, panel = main_window(self.parent()), self.parent()
        QApplication.sendPostedEvents(None, QEvent.Type.LayoutRequest.value)
        for dock in _own(window) if window is not None else ():
            if dock.windowTitle() == _CONTROLS and _CONTROLS in self._aside:
                dock.setVisible(self._drawing and _has_room(window, dock, panel))
        self._fit_to_screen.start()

    @property
    def keeps(self) -> bool:
        """Whether the window keeps its width until a new font has settled."""
        return self._kept is not None

    def keep(self) -> None:
        """Keep the window's width, although its content will need more."""
        window = main_window(self.parent())
        if window is not None and self._kept is None:
            self._kept = window.width()
        self._later.start()

    def _undo_growth(self) -> None:
        """Undo the growth of the window by a larger font, once docks are hidden."""
        self.make()
        width, self._kept = self._kept, None
        window = main_window(self.parent())
        if window is None or width is None or window.isMaximized() or window.isFullScreen():
            return
        if window.width() > width:
            window.layout().activate()
            window.resize(width, window.height())

    def _place(self) -> None:
        window = main_window(self.parent())
        if window is not None:
            _fit_to_screen(window)

    def release(self) -> None:
        """Show napari's docks again."""
        window = main_window(self.parent())
        if window is not None and not self._overruled:
            self._show_again(window)
        self._overruled = True
        self.deleteLater()

    def _show_again(self, window: QMainWindow) -> None:
        for dock in _own(window):
            if dock.windowTitle() in self._aside:
                dock.show()
        self._aside = ()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: ARG002
        """Update the docks after a change of size, and move a window that grew by itself.

        The width of a new dock is known with a delay, during which the window is too wide.
        """
        grew = isinstance(event, QResizeEvent) and not event.spontaneous()
        may_shrink = event.type() == QEvent.Type.LayoutRequest
        if grew or may_shrink or event.type() == QEvent.Type.Show:
            self._fit_to_screen.start()
        if event.type() in (QEvent.Type.Resize, QEvent.Type.Show) and not self._overruled:
            self._soon.start()
        return False


def _fit_to_screen(window: QMainWindow) -> None:
    """Fit a window that grew by the panel onto its screen."""
    screen = window.screen()
    if screen is None or window.isMaximized() or window.isFullScreen():
        return
    room, frame = screen.availableGeometry(), window.frameGeometry()
    beside = frame.size() - window.size()
    window.resize(window.size().boundedTo(room.size() - beside))
    frame = window.frameGeometry()
    left = max(min(frame.left(), room.right() + 1 - frame.width()), room.left())
    top = max(min(frame.top(), room.bottom() + 1 - frame.height()), room.top())
    if (left, top) != (frame.left(), frame.top()):
        window.move(left, top)


def _has_room(window: QMainWindow | None, dock: QDockWidget, panel: QObject | None) -> bool:
    """Whether a dock fits on the screen beside image and panel."""
    screen = None if window is None else window.screen()
    if window is None or screen is None or not isinstance(panel, QWidget):
        return False
    least = panel.minimumWidth() + dock.minimumSizeHint().width()
    image = max(window.centralWidget().minimumSizeHint().width(), _MIN_IMAGE)
    return bool(least + image <= screen.availableGeometry().width())


def _own(window: QMainWindow) -> list[QDockWidget]:
    return [dock for dock in window.findChildren(QDockWidget) if dock.windowTitle() in _ASIDE]
