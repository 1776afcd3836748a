"""Paints one drawing with Qt: image, map, lines, letters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QFont, QFontMetricsF, QImage, QPainter, QPen, QPolygonF

from lesionlens.napari.colours import BOX_COLOUR, MARK_COLOUR, PROMPT_COLOURS, map_colours
from lesionlens.napari.model.geometry.contours import Line
from lesionlens.napari.model.geometry.planes import Edges
from lesionlens.napari.model.geometry.slices import Slice
from lesionlens.napari.model.screen.drawing import Drawing, MapDrawing
from lesionlens.napari.model.screen.slice_annotations import DrawnMeasure

LETTER, TEXT_COLOUR, CROSS = QColor(255, 217, 89), QColor(217, 222, 230), QColor(0, 200, 220, 170)
RULER = QColor(140, 255, 170)
MARK = QColor(MARK_COLOUR)
_HANDLE_RADIUS, _RING_RADIUS = 4.0, 9.0
_OUTLINE_WIDTH, _BOX_WIDTH, _ISO_WIDTH, _TRAIL_WIDTH = 1.6, 1.0, 1.2, 2.0
_GAP, _MARGIN = 12.0, 8.0
_LETTER_SPACE = 12.0
"""Half width of the space for the letter of the upper edge, pixels."""
_ABOVE_LETTER, _ROWS_OF_LETTER = 0.8, 2
"""Rows of text in the upper margin and half a letter; rows that a letter at the side covers."""
_N_OF_PATIENT = 2
"""Rows of the patient's name and identifier, the first of the right texts."""
_SCALE_BARS_MM = (100.0, 50.0, 20.0, 10.0, 5.0, 2.0, 1.0)
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
        centre_x, centre_y = self.centre
        return QPointF(
            (x - centre_x) * self.zoom + self.width / 2,
            (y - centre_y) * self.zoom + self.height / 2,
        )

    def rect(self, x: float, y: float, width: float, height: float) -> QRectF:
        """Return the pixels of a rectangle."""
        corner = self.point(x, y)
        return QRectF(corner.x(), corner.y(), width * self.zoom, height * self.zoom)

    def position_mm(self, point: QPointF) -> tuple[float, float]:
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
    return _owned_image(grey, grey.shape[1], QImage.Format.Format_Grayscale8)


def colour_image(map_drawing: MapDrawing) -> QImage:
    """Return a map as transparent colour."""
    colours = _colour_table(map_drawing.role)
    value_range = max(map_drawing.top - map_drawing.low, 1e-9)
    index = (map_drawing.slice.data - np.float32(map_drawing.low)) * np.float32(
        (_LEVELS - 1) / value_range
    )
    rgba = colours[np.nan_to_num(index).clip(0, _LEVELS - 1).astype(np.uint8)]
    return _owned_image(rgba, rgba.shape[1] * 4, QImage.Format.Format_RGBA8888_Premultiplied)


def _owned_image(pixels: NDArray[np.uint8], stride: int, pixel_format: QImage.Format) -> QImage:
    """Return an image that owns its pixels."""
    rows, columns = pixels.shape[:2]
    return QImage(pixels.tobytes(), columns, rows, stride, pixel_format).copy()


@lru_cache(maxsize=8)
def _colour_table(role: str) -> NDArray[np.uint8]:
    """Return 256 premultiplied colours of a map's role."""
    stops = map_colours(role)
    positions = np.linspace(0.0, len(stops) - 1, _LEVELS)
    colours = np.stack(
        [np.interp(positions, np.arange(len(stops)), stops[:, channel]) for channel in range(4)],
        axis=1,
    )
    colours[:, :3] *= colours[:, 3:]
    return np.ascontiguousarray((colours * 255).round().astype(np.uint8))


def paint(
    painter: QPainter,
    drawing: Drawing,
    images: tuple[QImage | None, QImage | None],
    projection: Projection,
) -> None:
    """Paint a drawing; `images` are its slice and its map."""
    painter.fillRect(0, 0, projection.width, projection.height, Qt.GlobalColor.black)
    painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    image, colours = images
    if drawing.image is not None and image is not None:
        painter.drawImage(projection.rect(*drawing.image.corner, *drawing.image.size), image)
    if drawing.map is not None:
        _paint_map(painter, drawing.map, colours, projection)
    for colour, lines in drawing.outlines:
        style = Qt.PenStyle.DashLine if drawing.preliminary else Qt.PenStyle.SolidLine
        _paint_lines(painter, lines, QPen(QColor(colour), _OUTLINE_WIDTH, style), projection)
    if drawing.box is not None:
        painter.setPen(QPen(QColor(BOX_COLOUR), _BOX_WIDTH))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawRect(projection.rect(*drawing.box))
    _paint_crosshair(painter, projection.point(*drawing.crosshair), projection)
    for number, (x, y) in drawing.marks:
        _paint_mark(painter, projection.point(x, y), str(number))
    occupied: list[QRectF] = []
    for ruler in drawing.rulers:
        _paint_measure(painter, ruler, projection, occupied, raised_px=_HANDLE_RADIUS)
    for measure in drawing.measures:
        _paint_measure(painter, measure, projection, occupied)


def paint_brush(painter: QPainter, centre: QPointF, radius: float) -> None:
    """Paint the brush as a circle of a radius in pixels."""
    painter.setPen(QPen(TEXT_COLOUR, 1.0))
    painter.setBrush(Qt.BrushStyle.NoBrush)
    painter.drawEllipse(centre, radius, radius)


def _paint_mark(painter: QPainter, centre: QPointF, text: str) -> None:
    """Paint a reader's mark: a ring around the position, and its number."""
    painter.setPen(QPen(MARK, 1.6))
    painter.setBrush(Qt.BrushStyle.NoBrush)
    painter.drawEllipse(centre, _RING_RADIUS, _RING_RADIUS)
    _draw_text(
        painter, QPointF(centre.x() + _RING_RADIUS + 2, centre.y() - _RING_RADIUS), text, MARK
    )


def _paint_measure(
    painter: QPainter,
    measure: DrawnMeasure,
    projection: Projection,
    occupied: list[QRectF],
    *,
    raised_px: float = 0.0,
) -> None:
    """Paint a length with handles at its ends, and its text to the right, all in view."""
    _paint_lines(painter, (measure.points,), QPen(RULER, 1.2), projection)
    for x, y in measure.points.tolist():
        painter.drawEllipse(projection.point(x, y), _HANDLE_RADIUS, _HANDLE_RADIUS)
    metrics = QFontMetricsF(painter.font())
    beside = projection.point(*measure.text_at) + QPointF(2 * _HANDLE_RADIUS, -raised_px)
    position = clamp_to_view(metrics, measure.lines, beside, projection)
    text_rect = avoid_overlap(
        _text_rect(metrics, measure.lines, position), occupied, projection.height
    )
    occupied.append(text_rect)
    for row, text in enumerate(measure.lines):
        base_line = text_rect.top() + metrics.ascent() + row * metrics.height()
        _draw_text(
            painter, QPointF(position.x(), base_line), _elided(metrics, text, projection), RULER
        )


def clamp_to_view(
    metrics: QFontMetricsF, lines: Sequence[str], position: QPointF, projection: Projection
) -> QPointF:
    """Return where the first of some lines of text begins, so that no number is cut off.

    `position` is the preferred left end of the first line's base line, in pixels.
    """
    text_width = max(map(metrics.horizontalAdvance, lines), default=0.0)
    x = max(min(position.x(), projection.width - _MARGIN - text_width), _MARGIN)
    max_y = projection.height - _MARGIN - metrics.descent() - (len(lines) - 1) * metrics.height()
    return QPointF(x, max(min(position.y(), max_y), metrics.ascent()))


def _text_rect(metrics: QFontMetricsF, lines: Sequence[str], position: QPointF) -> QRectF:
    """Return the rectangle of lines of text, the first of which begins at `position`, in pixels."""
    width = max(map(metrics.horizontalAdvance, lines), default=0.0)
    return QRectF(
        position.x(), position.y() - metrics.ascent(), width, len(lines) * metrics.height()
    )


def avoid_overlap(block: QRectF, occupied: Sequence[QRectF], height: float) -> QRectF:
    """Return a block moved down, or else up, until it overlaps no occupied one.

    Two measurements beside each other would read as one: "53.3 mm" and "613 mm²" as "53.3 mm²".

    Parameters
    ----------
    occupied : sequence of QRectF
        Blocks of text that are painted already.
    height : float
        Height of the view, pixels. Without room in either direction the block is not moved.
    """
    for down in (True, False):
        shifted = QRectF(block)
        while (
            overlapping := next((rect for rect in occupied if rect.intersects(shifted)), None)
        ) is not None:
            if down:
                shifted.moveTop(overlapping.bottom())
            else:
                shifted.moveBottom(overlapping.top())
        if shifted.top() >= 0 and shifted.bottom() <= height:
            return shifted
    return block


def _elided(metrics: QFontMetricsF, text: str, projection: Projection) -> str:
    """Return a text, with an ellipsis if it is wider than the view."""
    width = projection.width - 2 * _MARGIN
    elided: str = metrics.elidedText(text, Qt.TextElideMode.ElideRight, width)
    return elided


def _paint_map(
    painter: QPainter, part: MapDrawing, image: QImage | None, projection: Projection
) -> None:
    if image is not None:
        painter.setOpacity(part.opacity)
        painter.drawImage(projection.rect(*part.slice.corner, *part.slice.size), image)
        painter.setOpacity(1.0)


def _paint_lines(
    painter: QPainter, lines: Sequence[Line], pen: QPen, projection: Projection
) -> None:
    painter.setPen(pen)
    painter.setBrush(Qt.BrushStyle.NoBrush)
    offset = np.asarray((projection.width, projection.height)) / 2
    for line in lines:
        pixels = (line - np.asarray(projection.centre)) * projection.zoom + offset
        painter.drawPolyline(QPolygonF([QPointF(x, y) for x, y in pixels.tolist()]))


def paint_trail(
    painter: QPainter,
    line: Sequence[tuple[float, float]],
    projection: Projection,
    *,
    is_foreground: bool,
) -> None:
    """Paint the line of a drag, in millimetres on the screen."""
    pen = QPen(QColor.fromRgbF(*PROMPT_COLOURS[is_foreground]), _TRAIL_WIDTH)
    _paint_lines(painter, [np.array(line, float)], pen, projection)


def _paint_crosshair(painter: QPainter, centre: QPointF, projection: Projection) -> None:
    painter.setRenderHint(QPainter.RenderHint.Antialiasing, on=False)
    painter.setPen(QPen(CROSS, 1.0))
    x, y = round(centre.x()), round(centre.y())
    painter.drawLine(QPointF(0, y), QPointF(x - _GAP, y))
    painter.drawLine(QPointF(x + _GAP, y), QPointF(projection.width, y))
    painter.drawLine(QPointF(x, 0), QPointF(x, y - _GAP))
    painter.drawLine(QPointF(x, y + _GAP), QPointF(x, projection.height))
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)


def paint_text(
    painter: QPainter, drawing: Drawing, corner: Sequence[str], foot: str, projection: Projection
) -> None:
    """Paint texts, with `corner` at the top right and `foot` at the bottom, and edge letters."""
    font = QFont(painter.font())
    font.setPointSizeF(9.0)
    painter.setFont(font)
    metrics = QFontMetricsF(font)
    visible_rows = projection.height / metrics.height()
    row_offset = identity_row_offset(metrics, drawing.lines, corner, projection.width)
    n_above = _rows_above_letter(visible_rows)
    lines = drawing.lines
    if row_offset:
        lines = lines[: max(n_above - min(len(corner), _N_OF_PATIENT), 1)]
        row_offset = identity_row_offset(metrics, lines, corner, projection.width)
    for number, text in enumerate(lines):
        row = number if number < n_above else number + _ROWS_OF_LETTER
        elided = _elided(metrics, text, projection)
        _draw_text(
            painter, QPointF(_MARGIN, _MARGIN + metrics.ascent() + row * metrics.height()), elided
        )
    shown_corner = corner[: identity_row_count(len(corner), row_offset, visible_rows)]
    for row, text in enumerate(shown_corner, row_offset):
        elided = _elided(metrics, text, projection)
        x = projection.width - _MARGIN - metrics.horizontalAdvance(elided)
        _draw_text(painter, QPointF(x, _MARGIN + metrics.ascent() + row * metrics.height()), elided)
    foot_is_wide = _reach_the_letter(metrics, (foot,), projection.width)
    letter_row = min(upper_letter_row(metrics, lines, shown_corner, projection.width), n_above)
    top_offset = letter_row * metrics.height()
    max_y = projection.height - _MARGIN - metrics.descent()
    foot_position = QPointF(_MARGIN, max_y - foot_is_wide * 2 * metrics.height())
    _draw_text(painter, foot_position, _elided(metrics, foot, projection))
    _paint_scale(painter, projection)
    _paint_edge_letters(painter, drawing.edges, top_offset, projection)


def _paint_edge_letters(
    painter: QPainter, edges: Edges, top_offset: float, projection: Projection
) -> None:
    """Paint the patient's sides at the edges, the upper one `top_offset` pixels below the edge."""
    font = QFont(painter.font())
    font.setPointSizeF(12.0)
    font.setBold(True)
    painter.setFont(font)
    metrics = QFontMetricsF(font)
    left, right, top, bottom = edges
    centre_x, centre_y = projection.width / 2, projection.height / 2 + metrics.ascent() / 2
    for text, x, y in (
        (left, _MARGIN, centre_y),
        (right, projection.width - _MARGIN - metrics.horizontalAdvance(right), centre_y),
        (
            top,
            centre_x - metrics.horizontalAdvance(top) / 2,
            top_offset + _MARGIN + metrics.ascent(),
        ),
        (bottom, centre_x - metrics.horizontalAdvance(bottom) / 2, projection.height - _MARGIN),
    ):
        _draw_text(painter, QPointF(x, y), text, LETTER)


def identity_row_offset(
    metrics: QFontMetricsF, left: Sequence[str], right: Sequence[str], width: float
) -> int:
    """Return by how many rows the right texts are moved below the left ones.

    They stay beside them if neither overlaps the letter of the upper edge.
    """
    meet = any(_reach_the_letter(metrics, texts, width) for texts in (left, right))
    return len(left) if right and meet else 0


def upper_letter_row(
    metrics: QFontMetricsF, left: Sequence[str], right: Sequence[str], width: float
) -> int:
    """Return the row of text from which the letter of the upper edge lies on none of the texts."""
    if _reach_the_letter(metrics, right, width):
        return identity_row_offset(metrics, left, right, width) + len(right)
    return len(left) if _reach_the_letter(metrics, left, width) else 0


def _reach_the_letter(metrics: QFontMetricsF, texts: Sequence[str], width: float) -> bool:
    """Return whether texts that begin at one side reach the letter in the middle."""
    return any(
        metrics.horizontalAdvance(text) > width / 2 - _MARGIN - _LETTER_SPACE for text in texts
    )


def identity_row_count(rows: int, row_offset: int, visible_rows: float) -> int:
    """Return how many of the right texts are shown in a view with `visible_rows` rows of text.

    They end above the letter of the right edge. Below the left ones they cover the image, so they
    are limited to the upper third of the view, but for patient and identifier, the first two.
    """
    if row_offset:
        rows = min(rows, max(_N_OF_PATIENT, int(visible_rows / 3) - row_offset))
    return max(min(rows, _rows_above_letter(visible_rows) - row_offset), 0)


def _rows_above_letter(visible_rows: float) -> int:
    """Return how many rows end above the letters in the middle of the left and right edges."""
    return int(visible_rows / 2 - _ABOVE_LETTER)


def _draw_text(
    painter: QPainter, position: QPointF, text: str, colour: QColor = TEXT_COLOUR
) -> None:
    """Paint text with a dark outline, readable on bright tissue."""
    painter.setPen(QColor(0, 0, 0, 200))
    for dx, dy in ((1, 1), (-1, 0), (0, -1)):
        painter.drawText(QPointF(position.x() + dx, position.y() + dy), text)
    painter.setPen(colour)
    painter.drawText(position, text)


def _paint_scale(painter: QPainter, projection: Projection) -> None:
    """Paint a scale bar of a round length, at most a third of the view."""
    length = next(
        (mm for mm in _SCALE_BARS_MM if mm * projection.zoom <= projection.width / 3),
        _SCALE_BARS_MM[-1],
    )
    right, y = projection.width - _MARGIN, projection.height - _MARGIN
    painter.setPen(QPen(TEXT_COLOUR, 2.0))
    painter.drawLine(QPointF(right - length * projection.zoom, y), QPointF(right, y))
    label = f"{length:.0f} mm"
    metrics = QFontMetricsF(painter.font())
    text_width = metrics.horizontalAdvance(label)
    position = QPointF(right - length * projection.zoom - 6 - text_width, y + metrics.descent())
    if position.x() < projection.width / 2 + _LETTER_SPACE:  # above it, beside the lower letter
        position = QPointF(right - text_width, y - 4 - metrics.descent())
    _draw_text(painter, position, label)
