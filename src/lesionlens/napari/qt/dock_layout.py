"""Hides napari's docks in a narrow window, so that image and panel have enough space."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtGui import QResizeEvent
from qtpy.QtWidgets import QApplication, QDockWidget, QMainWindow, QWidget

from lesionlens.napari.qt.keyboard import main_window
from lesionlens.napari.qt.waiting import once_idle

CANVAS_FRACTION = 0.6
"""Minimum fraction of the window's width for the image."""
_RESHOW_MARGIN_PX = 120
"""Extra width required to show the docks again, as they may need more than before."""
_MIN_IMAGE_PX = 300
"""Minimum width of the image beside napari's controls while an outline is drawn."""
_FONT_SETTLE_MS = 250  # time for a new font to reach every dock
_CONTROLS = "layer controls"
_MANAGED_DOCKS = (_CONTROLS, "layer list")


class DockLayout(QObject):
    """Hides napari's layer docks while they would leave too little space for the image.

    A dock that the reader shows again (*Window* menu) stays, and the others no longer change,
    except the controls while an outline is drawn. No widget is referenced, as that would keep the
    window alive.
    """

    def __init__(self, window: QMainWindow, panel: QWidget) -> None:
        super().__init__(panel)
        self._hidden_docks: tuple[str, ...] = ()
        self._docks_width = 0
        self._overruled = self._drawing = False
        self._held_width: int | None = None
        self._growth_timer = once_idle(self._undo_growth, self, _FONT_SETTLE_MS)
        self._update_timer = once_idle(self.update, self)
        self._controls_timer = once_idle(self._show_drawing_controls, self)
        self._fit_timer = once_idle(self._fit_window, self, _FONT_SETTLE_MS)
        window.installEventFilter(self)

    def update(self) -> None:
        """Hide or show napari's docks by the width of the window."""
        panel = self.parent()
        window = main_window(panel)
        if window is None or window.centralWidget() is None or not isinstance(panel, QWidget):
            return
        if self._drawing:
            return
        visible_docks = [dock for dock in _managed_docks(window) if dock.isVisible()]
        shown = {dock.windowTitle() for dock in visible_docks}
        if not shown.isdisjoint(self._hidden_docks):
            self._overruled = True
            self._hidden_docks = tuple(title for title in self._hidden_docks if title not in shown)
        if self._overruled:
            return
        panel_width = panel.minimumWidth()
        panel_dock = panel.parentWidget()
        if isinstance(panel_dock, QDockWidget):
            panel_dock.setMinimumWidth(0)  # Qt raised it for a larger font and does not lower it
            window.resizeDocks([panel_dock], [panel_width], Qt.Orientation.Horizontal)
        if visible_docks:
            self._docks_width = max(dock.width() for dock in visible_docks)
        width = (
            window.width() if self._held_width is None else min(self._held_width, window.width())
        )
        canvas_width, free_width = CANVAS_FRACTION * width, width - panel_width - self._docks_width
        if visible_docks and min(free_width, window.centralWidget().width()) < canvas_width:
            self._hidden_docks = tuple(dock.windowTitle() for dock in visible_docks)
            for dock in visible_docks:
                dock.hide()
        elif self._hidden_docks and free_width >= canvas_width + _RESHOW_MARGIN_PX:
            self._show_again(window)

    def set_drawing(self, *, drawing: bool, wait: bool) -> None:
        """Show napari's controls while an outline is drawn: eraser, brush size and colours.

        They move the image, so they wait while it is pointed at.
        """
        window = main_window(self.parent())
        if window is None or drawing is self._drawing or (drawing and wait):
            return
        if drawing:
            self.update()  # what the reader has shown is not hidden after the drawing
        self._drawing = drawing
        if drawing:
            self._controls_timer.start()
        else:
            self._show_drawing_controls()
            self.update()

    def _show_drawing_controls(self) -> None:
        """Show or hide the controls, once the other docks are laid out.

        On a screen without room for them they stay in napari's *Window* menu.
        """
        window, panel = main_window(self.parent()), self.parent()
        QApplication.sendPostedEvents(None, QEvent.Type.LayoutRequest.value)
        for dock in _managed_docks(window) if window is not None else ():
            if dock.windowTitle() == _CONTROLS and _CONTROLS in self._hidden_docks:
                dock.setVisible(self._drawing and _has_room(window, dock, panel))
        self._fit_timer.start()

    def hold_width(self) -> None:
        """Keep the window's width, although its content will need more."""
        window = main_window(self.parent())
        if window is not None and self._held_width is None:
            self._held_width = window.width()
        self._growth_timer.start()

    def _undo_growth(self) -> None:
        """Undo the growth of the window by a larger font, once docks are hidden."""
        self.update()
        width, self._held_width = self._held_width, None
        window = main_window(self.parent())
        if window is None or width is None or window.isMaximized() or window.isFullScreen():
            return
        if window.width() > width:
            window.layout().activate()
            window.resize(width, window.height())

    def _fit_window(self) -> None:
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
        for dock in _managed_docks(window):
            if dock.windowTitle() in self._hidden_docks:
                dock.show()
        self._hidden_docks = ()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Update the docks after a change of size, and move a window that grew by itself.

        The width of a new dock is known with a delay, during which the window is too wide.
        """
        grew = isinstance(event, QResizeEvent) and not event.spontaneous()
        may_shrink = event.type() == QEvent.Type.LayoutRequest
        if grew or may_shrink or event.type() == QEvent.Type.Show:
            self._fit_timer.start()
        if event.type() in (QEvent.Type.Resize, QEvent.Type.Show) and not self._overruled:
            self._update_timer.start()
        return False


def _fit_to_screen(window: QMainWindow) -> None:
    """Fit a window that grew by the panel onto its screen."""
    screen = window.screen()
    if screen is None or window.isMaximized() or window.isFullScreen():
        return
    available, frame = screen.availableGeometry(), window.frameGeometry()
    frame_margins = frame.size() - window.size()
    window.resize(window.size().boundedTo(available.size() - frame_margins))
    frame = window.frameGeometry()
    left = max(min(frame.left(), available.right() + 1 - frame.width()), available.left())
    top = max(min(frame.top(), available.bottom() + 1 - frame.height()), available.top())
    if (left, top) != (frame.left(), frame.top()):
        window.move(left, top)


def _has_room(window: QMainWindow, dock: QDockWidget, panel: QWidget) -> bool:
    """Whether a dock fits on the screen beside image and panel."""
    panel_and_dock = panel.minimumWidth() + dock.minimumSizeHint().width()
    image_width = max(window.centralWidget().minimumSizeHint().width(), _MIN_IMAGE_PX)
    return bool(panel_and_dock + image_width <= window.screen().availableGeometry().width())


def _managed_docks(window: QMainWindow) -> list[QDockWidget]:
    return [
        dock for dock in window.findChildren(QDockWidget) if dock.windowTitle() in _MANAGED_DOCKS
    ]
