"""Paints one drawing with Qt: image, map, lines, letters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QFont, QFontMetricsF, QImage, QPainter, QPen, QPolygonF

from lesionlens.napari.model.geometry.contours import Line
from lesionlens.napari.model.geometry.slices import Slice
from lesionlens.napari.model.screen.around_slice import DrawnMeasure
from lesionlens.napari.model.screen.drawing import Drawing, MapDrawing
from lesionlens.napari.viewer.colours import BOX_COLOUR, MARK_COLOUR, PROMPT_COLOURS, map_colours

LETTER, WORDS, CROSS = QColor(255, 217, 89), QColor(217, 222, 230), QColor(0, 200, 220, 170)
RULER = QColor(140, 255, 170)
MARK = QColor(MARK_COLOUR)
_HANDLE, _RING = 4.0, 9.0
_OUTLINE_WIDTH, _BOX_WIDTH, _ISO_WIDTH, _TRAIL_WIDTH = 1.6, 1.0, 1.2, 2.0
_GAP, _MARGIN = 12.0, 8.0
_BESIDE_LETTER = 12.0
"""Half width of the space for the letter of the upper edge, pixels."""
_BARS_MM = (100.0, 50.0, 20.0, 10.0, 5.0, 2.0, 1.0)
_LEVELS = 256


@dataclass(frozen=True, slots=True)
class Projection:
    """Millimetres on the screen to pixels of one view."""

    centre: tuple[float, float]
    zoom: float
    width: int
    height: int

    def point(self, x: float, y: float) -> QPointF:
        """Return the pixel of a point."""
        left, top = self.centre
        return QPointF(
            (x - left) * self.zoom + self.width / 2, (y - top) * self.zoom + self.height / 2
        )

    def rect(self, x: float, y: float, width: float, height: float) -> QRectF:
        """Return the pixels of a rectangle."""
        corner = self.point(x, y)
        return QRectF(corner.x(), corner.y(), width * self.zoom, height * self.zoom)

    def at(self, point: QPointF) -> tuple[float, float]:
        """Return the millimetres on the screen of a pixel."""
        return (
            (point.x() - self.width / 2) / self.zoom + self.centre[0],
            (point.y() - self.height / 2) / self.zoom + self.centre[1],
        )


def grey_image(part: Slice, window: tuple[float, float]) -> QImage:
    """Return a slice as grey values in a window (black, white)."""
    low, high = window
    scaled = (part.data.astype(np.float32) - low) * np.float32(255.0 / max(high - low, 1e-9))
    if part.data.dtype.kind == "f":
        scaled = np.nan_to_num(scaled)
    grey = np.ascontiguousarray(scaled.clip(0.0, 255.0).astype(np.uint8))
    return _copied(grey, grey.shape[1], QImage.Format.Format_Grayscale8)


def colour_image(part: MapDrawing) -> QImage:
    """Return a map as transparent colour."""
    table = _table(part.role)
    span = max(part.top - part.low, 1e-9)
    share = (part.slice.data - np.float32(part.low)) * np.float32((_LEVELS - 1) / span)
    rgba = table[np.nan_to_num(share).clip(0, _LEVELS - 1).astype(np.uint8)]
    return _copied(rgba, rgba.shape[1] * 4, QImage.Format.Format_RGBA8888_Premultiplied)


def _copied(pixels: NDArray[np.uint8], stride: int, kind: QImage.Format) -> QImage:
    """Return an image that owns its pixels."""
    rows, columns = pixels.shape[:2]
    return QImage(pixels.tobytes(), columns, rows, stride, kind).copy()


@lru_cache(maxsize=8)
def _table(role: str) -> NDArray[np.uint8]:
    """Return 256 premultiplied colours of a map's role."""
    stops = map_colours(role)
    at = np.linspace(0.0, len(stops) - 1, _LEVELS)
    colours = np.stack(
        [np.interp(at, np.arange(len(stops)), stops[:, channel]) for channel in range(4)], axis=1
    )
    colours[:, :3] *= colours[:, 3:]
    return np.ascontiguousarray((colours * 255).round().astype(np.uint8))


def paint(
    painter: QPainter, drawing: Drawing, images: tuple[QImage | None, QImage | None], to: Projection
) -> None:
    """Paint a drawing; `images` are its slice and its map."""
    painter.fillRect(0, 0, to.width, to.height, Qt.GlobalColor.black)
    painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    image, colours = images
    if drawing.image is not None and image is not None:
        painter.drawImage(to.rect(*drawing.image.corner, *drawing.image.size), image)
    if drawing.map is not None:
        _paint_map(painter, drawing.map, colours, to)
    for colour, lines in drawing.outlines:
        style = Qt.PenStyle.DashLine if drawing.preliminary else Qt.PenStyle.SolidLine
        _paint_lines(painter, lines, QPen(QColor(colour), _OUTLINE_WIDTH, style), to)
    if drawing.box is not None:
        painter.setPen(QPen(QColor(BOX_COLOUR), _BOX_WIDTH))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawRect(to.rect(*drawing.box))
    _paint_crosshair(painter, to.point(*drawing.crosshair), to)
    for number, (x, y) in drawing.marks:
        _paint_mark(painter, to.point(x, y), str(number))
    taken: list[QRectF] = []
    for _, ends, words in drawing.rulers:
        _paint_ruler(painter, to.point(*ends[0]), to.point(*ends[1]), words, taken)
    for measure in drawing.measures:
        _paint_measure(painter, measure, to, taken)


def paint_brush(painter: QPainter, at: QPointF, radius: float) -> None:
    """Paint the brush as a circle of a radius in pixels."""
    painter.setPen(QPen(WORDS, 1.0))
    painter.setBrush(Qt.BrushStyle.NoBrush)
    painter.drawEllipse(at, radius, radius)


def _paint_mark(painter: QPainter, at: QPointF, words: str) -> None:
    """Paint a reader's mark: a ring around the position, and its number."""
    painter.setPen(QPen(MARK, 1.6))
    painter.setBrush(Qt.BrushStyle.NoBrush)
    painter.drawEllipse(at, _RING, _RING)
    _text(painter, QPointF(at.x() + _RING + 2, at.y() - _RING), words, MARK)


def _paint_ruler(
    painter: QPainter, start: QPointF, end: QPointF, words: str, taken: list[QRectF]
) -> None:
    """Paint a line with two handles, and its length beside the right end, added to `taken`."""
    painter.setPen(QPen(RULER, 1.2))
    painter.setBrush(Qt.BrushStyle.NoBrush)
    painter.drawLine(start, end)
    for at in (start, end):
        painter.drawEllipse(at, _HANDLE, _HANDLE)
    beside = max(start, end, key=lambda at: at.x())
    at = QPointF(beside.x() + 2 * _HANDLE, beside.y() - _HANDLE)
    taken.append(_block(QFontMetricsF(painter.font()), (words,), at))
    _text(painter, at, words, RULER)


def _paint_measure(
    painter: QPainter, measure: DrawnMeasure, to: Projection, taken: list[QRectF]
) -> None:
    """Paint a measurement with handles at its points, and its text to the right, all in view.

    The text covers none of `taken`, and is added.
    """
    _paint_lines(painter, (measure.line,), QPen(RULER, 1.2), to)
    for x, y in measure.points.tolist():
        painter.drawEllipse(to.point(x, y), _HANDLE, _HANDLE)
    metrics = QFontMetricsF(painter.font())
    at = in_view(metrics, measure.lines, to.point(*measure.text_at) + QPointF(2 * _HANDLE, 0.0), to)
    block = apart(_block(metrics, measure.lines, at), taken, to.height)
    at = QPointF(at.x(), block.top() + metrics.ascent())
    taken.append(block)
    for number, words in enumerate(measure.lines):
        shown = _elided(metrics, words, to)
        _text(painter, QPointF(at.x(), at.y() + number * metrics.height()), shown, RULER)


def in_view(metrics: QFontMetricsF, lines: Sequence[str], at: QPointF, to: Projection) -> QPointF:
    """Return where the first of some lines of text begins, so that no number is cut off.

    Parameters
    ----------
    at : QPointF
        Wanted left end of the first line's base line, pixels.
    """
    widest = max(map(metrics.horizontalAdvance, lines), default=0.0)
    x = max(min(at.x(), to.width - _MARGIN - widest), _MARGIN)
    lowest = to.height - _MARGIN - metrics.descent() - (len(lines) - 1) * metrics.height()
    return QPointF(x, max(min(at.y(), lowest), metrics.ascent()))


def _block(metrics: QFontMetricsF, lines: Sequence[str], at: QPointF) -> QRectF:
    """Return the room of lines of text, of which the first begins at `at`, in pixels."""
    wide = max(map(metrics.horizontalAdvance, lines), default=0.0)
    return QRectF(at.x(), at.y() - metrics.ascent(), wide, len(lines) * metrics.height())


def apart(block: QRectF, taken: Sequence[QRectF], height: float) -> QRectF:
    """Return a block moved down, or up if there is no room, until it covers no other one.

    Two measurements beside each other would read as one: "53.3 mm" and "613 mm²" as "53.3 mm²".

    Parameters
    ----------
    taken : sequence of QRectF
        Blocks of text that are painted already.
    height : float
        Height of the view, pixels. Where neither way has room, the block stays where it was.
    """
    for down in (True, False):
        moved = QRectF(block)
        while (hit := next((one for one in taken if one.intersects(moved)), None)) is not None:
            if down:
                moved.moveTop(hit.bottom())
            else:
                moved.moveBottom(hit.top())
        if moved.top() >= 0 and moved.bottom() <= height:
            return moved
    return block


def _elided(metrics: QFontMetricsF, words: str, to: Projection) -> str:
    """Return a text, with an ellipsis if it is wider than the view."""
    room = to.width - 2 * _MARGIN
    shown: str = metrics.elidedText(words, Qt.TextElideMode.ElideRight, room)
    return shown


def _paint_map(painter: QPainter, part: MapDrawing, image: QImage | None, to: Projection) -> None:
    if part.lines:
        table = map_colours(part.role)
        for share, lines in part.lines:
            red, green, blue = table[min(int(share * len(table)), len(table) - 1), :3]
            colour = QColor.fromRgbF(float(red), float(green), float(blue))
            pen = QPen(colour, _ISO_WIDTH, Qt.PenStyle.DashLine)
            _paint_lines(painter, lines, pen, to)
    elif image is not None:
        painter.setOpacity(part.opacity)
        painter.drawImage(to.rect(*part.slice.corner, *part.slice.size), image)
        painter.setOpacity(1.0)


def _paint_lines(painter: QPainter, lines: Sequence[Line], pen: QPen, to: Projection) -> None:
    painter.setPen(pen)
    painter.setBrush(Qt.BrushStyle.NoBrush)
    shift = np.asarray((to.width, to.height)) / 2
    for line in lines:
        pixels = (line - np.asarray(to.centre)) * to.zoom + shift
        painter.drawPolyline(QPolygonF([QPointF(x, y) for x, y in pixels.tolist()]))


def paint_trail(
    painter: QPainter, line: Sequence[tuple[float, float]], to: Projection, *, belongs: bool
) -> None:
    """Paint the line of a drag, in millimetres on the screen."""
    pen = QPen(QColor.fromRgbF(*PROMPT_COLOURS[belongs]), _TRAIL_WIDTH)
    _paint_lines(painter, [np.array(line, float)], pen, to)


def _paint_crosshair(painter: QPainter, at: QPointF, to: Projection) -> None:
    painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
    painter.setPen(QPen(CROSS, 1.0))
    x, y = round(at.x()), round(at.y())
    painter.drawLine(QPointF(0, y), QPointF(x - _GAP, y))
    painter.drawLine(QPointF(x + _GAP, y), QPointF(to.width, y))
    painter.drawLine(QPointF(x, 0), QPointF(x, y - _GAP))
    painter.drawLine(QPointF(x, y + _GAP), QPointF(x, to.height))
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)


def paint_words(
    painter: QPainter, drawing: Drawing, corner: Sequence[str], foot: str, to: Projection
) -> None:
    """Paint letters and texts, with `corner` at the top right and `foot` at the bottom."""
    font = QFont(painter.font())
    font.setPointSizeF(9.0)
    painter.setFont(font)
    metrics = QFontMetricsF(font)
    below = rows_below(metrics, drawing.lines, corner, to.width)
    for row, words in enumerate(drawing.lines):
        shown = _elided(metrics, words, to)
        _text(painter, QPointF(_MARGIN, _MARGIN + metrics.ascent() + row * metrics.height()), shown)
    shown_rows = rows_of_identity(len(corner), below, to.height / metrics.height())
    for row, words in enumerate(corner[:shown_rows], below):
        shown = _elided(metrics, words, to)
        x = to.width - _MARGIN - metrics.horizontalAdvance(shown)
        _text(painter, QPointF(x, _MARGIN + metrics.ascent() + row * metrics.height()), shown)
    half = to.width / 2 - _MARGIN - _BESIDE_LETTER
    reaches = metrics.horizontalAdvance(foot) > half
    long = max(map(metrics.horizontalAdvance, drawing.lines), default=0.0) > half
    under = long * len(drawing.lines) * metrics.height()
    lowest = to.height - _MARGIN - metrics.descent()
    at = QPointF(_MARGIN, lowest - reaches * 2 * metrics.height())
    _text(painter, at, _elided(metrics, foot, to))
    _paint_scale(painter, to)
    font.setPointSizeF(12.0)
    font.setBold(True)
    painter.setFont(font)
    metrics = QFontMetricsF(font)
    left, right, top, bottom = drawing.edges
    across, down = to.width / 2, to.height / 2 + metrics.ascent() / 2
    for words, x, y in (
        (left, _MARGIN, down),
        (right, to.width - _MARGIN - metrics.horizontalAdvance(right), down),
        (top, across - metrics.horizontalAdvance(top) / 2, under + _MARGIN + metrics.ascent()),
        (bottom, across - metrics.horizontalAdvance(bottom) / 2, to.height - _MARGIN),
    ):
        _text(painter, QPointF(x, y), words, LETTER)


def rows_below(
    metrics: QFontMetricsF, left: Sequence[str], right: Sequence[str], width: float
) -> int:
    """Return by how many rows the right texts are moved below the left ones.

    They stay beside them if neither overlaps the letter of the upper edge.
    """
    widest = [max(map(metrics.horizontalAdvance, words), default=0.0) for words in (left, right)]
    beside = max(widest) <= width / 2 - _MARGIN - _BESIDE_LETTER
    return 0 if beside or not right else len(left)


def rows_of_identity(rows: int, below: int, fitting: float) -> int:
    """Return how many of the right texts are shown in a view that `fitting` rows fit into.

    Moved below the left ones they lie on the image: they end within the upper third of the view,
    but patient and identifier, the first two, are always shown.
    """
    return min(rows, max(2, int(fitting / 3) - below)) if below else rows


def _text(painter: QPainter, at: QPointF, words: str, colour: QColor = WORDS) -> None:
    """Paint text with a dark outline, readable on bright tissue."""
    painter.setPen(QColor(0, 0, 0, 200))
    for dx, dy in ((1, 1), (-1, 0), (0, -1)):
        painter.drawText(QPointF(at.x() + dx, at.y() + dy), words)
    painter.setPen(colour)
    painter.drawText(at, words)


def _paint_scale(painter: QPainter, to: Projection) -> None:
    """Paint a scale bar of a round length, at most a third of the view."""
    length = next((mm for mm in _BARS_MM if mm * to.zoom <= to.width / 3), _BARS_MM[-1])
    right, y = to.width - _MARGIN, to.height - _MARGIN
    painter.setPen(QPen(WORDS, 2.0))
    painter.drawLine(QPointF(right - length * to.zoom, y), QPointF(right, y))
    words = f"{length / 10:.0f} cm" if length >= 10 else f"{length:.0f} mm"
    metrics = QFontMetricsF(painter.font())
    x = right - length * to.zoom - 6 - metrics.horizontalAdvance(words)
    _text(painter, QPointF(x, y + metrics.descent()), words)
