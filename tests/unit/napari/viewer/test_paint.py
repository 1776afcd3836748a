"""Lines over linked views, painted without a window."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import QRectF
from qtpy.QtGui import QColor, QImage, QPainter

from lesionlens.napari.model.geometry.measures import ellipse
from lesionlens.napari.model.screen.drawing import Drawing, Edges
from lesionlens.napari.model.screen.slice_annotations import DrawnMeasure
from lesionlens.napari.viewer import paint
from lesionlens.napari.viewer.paint import Projection, paint_trail


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_a_line_is_as_wide_for_the_eye_on_a_screen_of_many_pixels(scale):
    """At 200% outlines and doubtful parts were half as wide as at 100%."""
    image = QImage(60 * scale, 40 * scale, QImage.Format.Format_ARGB32)
    image.setDevicePixelRatio(scale)
    image.fill(0)
    painter = QPainter(image)
    place = Projection((0.0, 0.0), 1.0, 60, 40)
    paint_trail(painter, [(-20.0, 0.0), (20.0, 0.0)], place, is_foreground=True)
    painter.end()
    column = (image.pixelColor(30 * scale, y) for y in range(40 * scale))
    assert sum(map(QColor.alphaF, column)) / scale == pytest.approx(2.0, abs=0.6)


def texts_of(monkeypatch, draw):
    """Return the rectangles of the texts that `draw` paints on a view of 300 x 400 pixels."""
    found = []

    def record(painter, position, text, *_):
        metrics = paint.QFontMetricsF(painter.font())
        found.append(
            QRectF(
                position.x(),
                position.y() - metrics.ascent(),
                metrics.horizontalAdvance(text),
                metrics.height(),
            )
        )

    monkeypatch.setattr(paint, "_draw_text", record)
    image = QImage(300, 400, QImage.Format.Format_ARGB32)
    painter = QPainter(image)
    draw(painter, Projection((0.0, 0.0), 1.0, 300, 400))
    painter.end()
    return found


@pytest.mark.parametrize("left", [0.0, -145.0])
def test_the_text_of_a_region_near_the_edge_does_not_cover_it(qapp, monkeypatch, left):
    """In a narrow view its numbers lay on the tissue that they describe."""
    points = np.array([[left, -20.0], [140.0, 20.0]])
    lines = ("FLAIR", "mean 439.1", "min 251")
    measure = DrawnMeasure(0, points, ellipse(points), lines, (140.0, -20.0))

    def draw(painter, projection):
        paint._paint_measure(painter, measure, projection, [])

    texts = texts_of(monkeypatch, draw)
    region = QRectF(150 + left, 180.0, 140.0 - left, 40.0)
    assert len(texts) == 3
    assert not any(rect.intersects(region) for rect in texts)
    assert all(QRectF(0.0, 0.0, 300.0, 400.0).contains(rect) for rect in texts)


def test_diameters_near_the_edge_are_read_in_full(qapp, monkeypatch):
    """The right part of "34.6 mm, by hand" was outside of a narrow view; two lay on each other."""

    def draw(painter, projection):
        occupied = []
        for y in (0.0, 4.0):
            ends = np.array([[100.0, y], [145.0, y]])
            ruler = DrawnMeasure.ruler(0, ends, "34.6 mm, by hand")
            paint._paint_measure(painter, ruler, projection, occupied, raised_px=4.0)

    first, second = texts_of(monkeypatch, draw)
    assert not first.intersects(second)
    assert max(first.right(), second.right()) <= 300.0


@pytest.mark.parametrize("width", [120, 150, 190, 240, 260, 400])
@pytest.mark.parametrize("foot", ["", "303  at  x -149  y 100  z 92 mm"])
def test_the_length_of_the_scale_bar_lies_beside_the_lower_letter(qapp, monkeypatch, width, foot):
    """In four narrow views "P" was written over "50 mm"."""
    found = {}

    def record(painter, position, text, *_):
        metrics = paint.QFontMetricsF(painter.font())
        found[text] = metrics.tightBoundingRect(text).translated(position)

    monkeypatch.setattr(paint, "_draw_text", record)
    painter = QPainter(image := QImage(width, 300, QImage.Format.Format_ARGB32))
    drawing = Drawing(None, (0.0, 0.0), (0.0, 0.0), Edges("R", "L", "A", "P"), ())
    paint.paint_text(painter, drawing, (), foot, Projection((0.0, 0.0), 1.0, width, 300))
    painter.end()
    (length,) = (rect for text, rect in found.items() if text.endswith("0 mm"))
    others = [rect for text, rect in found.items() if not text.endswith("0 mm")]
    assert QRectF(image.rect()).contains(length)
    assert not any(length.intersects(rect) for rect in others)
