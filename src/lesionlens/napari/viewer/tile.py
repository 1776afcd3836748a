"""One of the linked views: paints its drawing and forwards the mouse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from qtpy.QtCore import QEvent, QPointF, QSize, Qt
from qtpy.QtGui import QImage, QMouseEvent, QPainter, QPaintEvent, QResizeEvent, QWheelEvent
from qtpy.QtWidgets import QSizePolicy, QWidget

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
    paint_trail,
    paint_words,
)

NOTCH = 120
"""Qt's angle delta of one wheel step."""
_SMALLEST = QSize(120, 120)


class _Listener(Protocol):
    """What a tile asks of `BoardView`, and reports to it; `at` is in millimetres on the screen."""

    def drawing(self, tile: Tile) -> Drawing | None: ...
    def limits(self, tile: Tile) -> tuple[float, float]: ...
    def zoom(self) -> float: ...
    def corner(self, tile: Tile) -> tuple[str, ...]: ...
    def foot(self, tile: Tile) -> str: ...
    def brush_mm(self) -> float | None: ...
    def prompting(self) -> bool: ...
    def excluding(self) -> bool: ...
    def pressed(self, tile: Tile, at: tuple[float, float], *, ask: bool) -> None: ...
    def dragged(self, tile: Tile, by: tuple[float, float], *, window: bool) -> None: ...
    def released(self) -> None: ...
    def hovered(self, tile: Tile | None, at: tuple[float, float]) -> None: ...
    def turned(
        self, tile: Tile, steps: float, at: tuple[float, float], *, control: bool
    ) -> None: ...
    def added_at(self, tile: Tile, at: tuple[float, float]) -> None: ...
    def prompted_along(
        self, tile: Tile, path: Sequence[tuple[float, float]], moved: bool, modifiers: set[str]
    ) -> None: ...
    def doubled(self, tile: Tile) -> None: ...
    def resized(self) -> None: ...


@dataclass
class _Way:
    """Path of the pointer during a prompt."""

    begun: QPointF
    path: list[tuple[float, float]]
    modifiers: set[str]
    moved: bool = False

    def go(self, position: QPointF, where: tuple[float, float]) -> None:
        """Add a position; small movements are ignored."""
        by = position - self.begun
        self.moved = self.moved or max(abs(by.x()), abs(by.y())) > STILL_PX
        self.path.append(where)


class TileView(QWidget):
    """Paints one tile, and forwards the mouse to the listener."""

    def __init__(self, tile: Tile, listener: _Listener, parent: QWidget) -> None:
        super().__init__(parent)
        self.tile = tile
        self._listener = listener
        self._at: QPointF | None = None
        self._way: _Way | None = None
        self._over: QPointF | None = None
        self._images: dict[str, tuple[Any, QImage]] = {}
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.setFocusProxy(parent)  # tiles are replaced, so the parent keeps the focus
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self.setMinimumSize(_SMALLEST)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setAccessibleName(f"{tile.sequence.display_name}, {tile.plane.value}")

    # --- painted --------------------------------------------------------------------------

    def projection(self, drawing: Drawing) -> Projection:
        """Return the mapping of millimetres on the screen to this widget."""
        return Projection(drawing.centre, self._listener.zoom(), self.width(), self.height())

    def paintEvent(self, _: QPaintEvent) -> None:
        """Paint the tile."""
        drawing = self._listener.drawing(self.tile)
        painter = QPainter(self)
        if drawing is None:
            painter.fillRect(self.rect(), Qt.GlobalColor.black)
            painter.end()
            return
        window, to = self._listener.limits(self.tile), self.projection(drawing)
        grey = colours = None
        if drawing.image is not None:
            image: Slice = drawing.image
            grey = self._image("grey", (image, window), lambda: grey_image(image, window))
        if drawing.map is not None and not drawing.map.lines:
            part = drawing.map
            colours = self._image(
                "map", (part.slice, part.top, part.low), lambda: colour_image(part)
            )
        paint(painter, drawing, (grey, colours), to)
        paint_words(
            painter, drawing, self._listener.corner(self.tile), self._listener.foot(self.tile), to
        )
        radius = self._listener.brush_mm()
        if radius is not None and self._over is not None:
            paint_brush(painter, self._over, radius * to.zoom)
        if self._way is not None and self._way.moved:
            line = line_of(self._way.path, self._way.modifiers)
            paint_trail(painter, line, to, belongs="Alt" not in self._way.modifiers)
        painter.end()

    def _image(self, name: str, key: Any, make: Callable[[], QImage]) -> QImage:
        known = self._images.get(name)
        if known is None or known[0][0] is not key[0] or known[0][1] != key[1]:
            known = (key, make())
            self._images[name] = known
        return known[1]

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Report the change of size."""
        super().resizeEvent(event)
        self._listener.resized()

    # --- the mouse ------------------------------------------------------------------------

    def _where(self, position: QPointF) -> tuple[float, float] | None:
        drawing = self._listener.drawing(self.tile)
        return None if drawing is None else self.projection(drawing).at(position)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Left: crosshair; Shift: probe; Ctrl: add a lesion. Right: window. Middle, Alt: move."""
        self.setFocus(Qt.FocusReason.MouseFocusReason)
        where, held = self._where(event.position()), set(modifiers_of(event))
        if event.button() == Qt.MouseButton.LeftButton and where is not None:
            if self._listener.prompting():
                modifiers = switched(held, self._listener.excluding())
                self._way = _Way(event.position(), [where], modifiers)
                return
            if "Control" in held:
                self._listener.added_at(self.tile, where)
                return
        self._at = event.position()
        self._cross(event)

    def _cross(self, event: QMouseEvent) -> None:
        where, held = self._where(event.position()), modifiers_of(event)
        left = bool(event.buttons() & Qt.MouseButton.LeftButton)
        if where is not None and left and "Alt" not in held:
            self._listener.pressed(self.tile, where, ask="Shift" in held)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Continue a drag; without a button, report the position."""
        buttons, before = event.buttons(), self._at
        self._over = event.position()
        where = self._where(event.position())
        if where is not None:
            self._listener.hovered(self.tile, where)
        if self._way is not None and where is not None:
            self._way.go(event.position(), where)
            self.update()
        if before is None or buttons == Qt.MouseButton.NoButton:
            return
        by = (event.position().x() - before.x(), event.position().y() - before.y())
        self._at = event.position()
        if buttons & Qt.MouseButton.RightButton:
            self._listener.dragged(self.tile, by, window=True)
        elif buttons & Qt.MouseButton.MiddleButton or "Alt" in modifiers_of(event):
            self._listener.dragged(self.tile, by, window=False)
        else:
            self._cross(event)

    def mouseReleaseEvent(self, _: QMouseEvent) -> None:
        """End a drag."""
        self._at = None
        way, self._way = self._way, None
        if way is not None:
            self.update()
            self._listener.prompted_along(self.tile, way.path, way.moved, way.modifiers)
        self._listener.released()

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        """Show this view alone, or all views again."""
        if self._listener.prompting() or self._listener.brush_mm() is not None:
            self.mousePressEvent(event)
        elif event.button() == Qt.MouseButton.LeftButton:
            self._listener.doubled(self.tile)

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Forward the wheel."""
        delta = event.angleDelta()
        where = self._where(event.position())
        if where is not None:
            control = "Control" in modifiers_of(event)
            steps = (delta.y() or delta.x()) / NOTCH
            self._listener.turned(self.tile, steps, where, control=control)
        event.accept()

    def leaveEvent(self, event: QEvent) -> None:
        """Report that the pointer left."""
        super().leaveEvent(event)
        self._over = None
        self._listener.hovered(None, (0.0, 0.0))
