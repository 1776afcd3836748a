"""One of the linked views: paints its drawing and forwards the mouse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from qtpy.QtCore import QEvent, QPointF, QSize, Qt
from qtpy.QtGui import (
    QHideEvent,
    QImage,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QResizeEvent,
    QWheelEvent,
)
from qtpy.QtWidgets import QSizePolicy, QWidget

from lesionlens.base.records.findings import Point
from lesionlens.napari.controllers.actions import Actions
from lesionlens.napari.model.choices.gestures import STILL_PX, line_of, switched
from lesionlens.napari.model.geometry.slices import Slice
from lesionlens.napari.model.screen.board import Tile
from lesionlens.napari.model.screen.drawing import Drawing
from lesionlens.napari.qt.keyboard import modifiers_of
from lesionlens.napari.viewer.paint import (
    Projection,
    colour_image,
    grey_image,
    paint,
    paint_brush,
    paint_text,
    paint_trail,
)
from lesionlens.napari.viewer.wheel import NOTCH

_MIN_SIZE = QSize(120, 120)


class _Listener(Protocol):
    """Interface of `BoardView` for its tiles; `position` is in millimetres on the screen."""

    def drawing(self, tile: Tile) -> Drawing | None: ...
    def limits(self, tile: Tile) -> tuple[float, float]: ...
    def corner(self, tile: Tile) -> tuple[str, ...]: ...
    def footer(self, tile: Tile) -> str: ...
    def brush_mm(self, tile: Tile) -> float | None: ...
    def pressed(self, tile: Tile, position: tuple[float, float]) -> None: ...
    def dragged(self, tile: Tile, offset_px: tuple[float, float], *, window: bool) -> None: ...
    def released(self) -> None: ...
    def hovered(self, tile: Tile | None, position: tuple[float, float]) -> None: ...
    def wheel_turned(
        self, tile: Tile, steps: float, position: tuple[float, float], *, control: bool
    ) -> None: ...
    def lesion_added(self, tile: Tile, position: tuple[float, float]) -> None: ...
    def prompt_drawn(self, drawn: PromptPath) -> None: ...
    def double_clicked(self, tile: Tile) -> None: ...
    def resized(self) -> None: ...


@dataclass
class PromptPath:
    """Path of the pointer during a prompt."""

    tile: Tile
    """Tile in which it was begun."""
    begun: QPointF
    path: list[tuple[float, float]]
    """Millimetres on the screen."""
    modifiers: set[str]
    crosshair_mm: Point
    """Crosshair at the beginning, RAS+: the slice through it is prompted."""
    moved: bool = False

    def go(self, position: QPointF, position_mm: tuple[float, float]) -> None:
        """Add a position; small movements are ignored."""
        offset = position - self.begun
        self.moved = self.moved or max(abs(offset.x()), abs(offset.y())) > STILL_PX
        self.path.append(position_mm)


class TileView(QWidget):
    """Paints one tile, and forwards the mouse to the listener."""

    def __init__(self, tile: Tile, listener: _Listener, acts: Actions, parent: QWidget) -> None:
        super().__init__(parent)
        self.tile = tile
        self._listener, self._acts = listener, acts
        self._drag_position: QPointF | None = None
        self._prompt_path: PromptPath | None = None
        self._pointer: QPointF | None = None
        self._images: dict[str, tuple[Any, QImage]] = {}
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.setFocusProxy(parent)  # tiles are replaced, so the parent keeps the focus
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self.setMinimumSize(_MIN_SIZE)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setAccessibleName(f"{tile.sequence.display_name}, {tile.plane.value}")

    # --- painted --------------------------------------------------------------------------

    def projection(self, drawing: Drawing) -> Projection:
        """Return the mapping of millimetres on the screen to this widget."""
        zoom = self._acts.viewpoint.current.zoom
        return Projection(drawing.centre, zoom, self.width(), self.height())

    def paintEvent(self, _: QPaintEvent) -> None:
        """Paint the tile."""
        drawing = self._listener.drawing(self.tile)
        painter = QPainter(self)
        if drawing is None:
            painter.fillRect(self.rect(), Qt.GlobalColor.black)
            painter.end()
            return
        window, projection = self._listener.limits(self.tile), self.projection(drawing)
        grey = colours = None
        if drawing.image is not None:
            image: Slice = drawing.image
            grey = self._image("grey", (image, window), lambda: grey_image(image, window))
        if drawing.map is not None:
            map_drawing = drawing.map
            colours = self._image(
                "map",
                (map_drawing.slice, map_drawing.top, map_drawing.low),
                lambda: colour_image(map_drawing),
            )
        paint(painter, drawing, (grey, colours), projection)
        paint_text(
            painter,
            drawing,
            self._listener.corner(self.tile),
            self._listener.footer(self.tile),
            projection,
        )
        radius = self._listener.brush_mm(self.tile)
        if radius is not None and self._pointer is not None:
            paint_brush(painter, self._pointer, radius * projection.zoom)
        if self._prompt_path is not None and self._prompt_path.moved:
            line = line_of(self._prompt_path.path, self._prompt_path.modifiers)
            paint_trail(
                painter, line, projection, is_foreground="Alt" not in self._prompt_path.modifiers
            )
        painter.end()

    def _image(self, name: str, key: Any, render: Callable[[], QImage]) -> QImage:
        cached = self._images.get(name)
        if cached is None or cached[0][0] is not key[0] or cached[0][1] != key[1]:
            cached = (key, render())
            self._images[name] = cached
        return cached[1]

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Report the change of size."""
        super().resizeEvent(event)
        self._listener.resized()

    def hideEvent(self, event: QHideEvent) -> None:
        """End a drag: what follows of it has no position on an image."""
        super().hideEvent(event)
        self._drag_position = None
        self.forget_prompt()

    # --- the mouse ------------------------------------------------------------------------

    def _position_mm(self, position: QPointF) -> tuple[float, float] | None:
        drawing = self._listener.drawing(self.tile)
        return None if drawing is None else self.projection(drawing).position_mm(position)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Left: crosshair; Ctrl: add a lesion. Right: window. Middle, Alt: move."""
        self.setFocus(Qt.FocusReason.MouseFocusReason)
        if event.buttons() == event.button():
            self._listener.released()  # a dialog may have taken the release of the last press
        self._pointer = event.position()
        position, modifier_keys = self._position_mm(event.position()), set(modifiers_of(event))
        if event.button() == Qt.MouseButton.LeftButton and position is not None:
            if self._acts.prompting.active:
                modifiers = switched(modifier_keys, excluding=self._acts.prompting.excluding)
                crosshair_mm = self._acts.viewpoint.current.point_mm
                self._acts.prompting.begin_stroke()
                self._prompt_path = PromptPath(
                    self.tile, event.position(), [position], modifiers, crosshair_mm
                )
                return
            if "Control" in modifier_keys and not self._acts.editing:
                self._listener.lesion_added(self.tile, position)
                return
        self._drag_position = event.position()
        self._press(event, event.buttons())

    def _press(self, event: QMouseEvent, buttons: Qt.MouseButton) -> None:
        position, modifier_keys = self._position_mm(event.position()), modifiers_of(event)
        is_left = bool(buttons & Qt.MouseButton.LeftButton)
        if position is not None and is_left and "Alt" not in modifier_keys:
            self._listener.pressed(self.tile, position)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Continue a drag; without a button, report the position."""
        self._pointer = event.position()
        position = self._position_mm(event.position())
        if position is not None:
            self._listener.hovered(self.tile, position)
        self._continue_drag(event, event.buttons())

    def _continue_drag(self, event: QMouseEvent, buttons: Qt.MouseButton) -> None:
        position, previous = self._position_mm(event.position()), self._drag_position
        if self._prompt_path is not None and position is not None:
            self._prompt_path.go(event.position(), position)
            self.update()
        if previous is None or buttons == Qt.MouseButton.NoButton:
            return
        offset = (event.position().x() - previous.x(), event.position().y() - previous.y())
        self._drag_position = event.position()
        if buttons & Qt.MouseButton.RightButton:
            self._listener.dragged(self.tile, offset, window=True)
        elif buttons & Qt.MouseButton.MiddleButton or "Alt" in modifiers_of(event):
            self._listener.dragged(self.tile, offset, window=False)
        else:
            self._press(event, buttons)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """End a drag where the button was released.

        Qt omits movements that a busy window did not handle in time, but never the release.
        """
        if event.position() != self._pointer:
            self._continue_drag(event, event.buttons() | event.button())
        self._drag_position = None
        prompt_path = self._prompt_path
        self.forget_prompt()
        if prompt_path is not None:
            self._listener.prompt_drawn(prompt_path)
        self._listener.released()

    def forget_prompt(self) -> None:
        """Drop the prompt being drawn."""
        if self._prompt_path is not None:
            self._prompt_path = None
            self.update()
            self._acts.prompting.end_stroke()

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        """Show this view alone, or all views again; where the button drags or draws, press it."""
        is_left = event.button() == Qt.MouseButton.LeftButton
        draws = self._acts.prompting.active or self._listener.brush_mm(self.tile) is not None
        if is_left and not draws:
            self._listener.double_clicked(self.tile)
        else:
            self.mousePressEvent(event)

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Forward the wheel."""
        delta = event.angleDelta()
        position = self._position_mm(event.position())
        if position is not None:
            control = "Control" in modifiers_of(event)
            steps = (delta.y() or delta.x()) / NOTCH
            self._listener.wheel_turned(self.tile, steps, position, control=control)
        event.accept()

    def leaveEvent(self, event: QEvent) -> None:
        """Report that the pointer left."""
        super().leaveEvent(event)
        self._pointer = None
        self._listener.hovered(None, (0.0, 0.0))
