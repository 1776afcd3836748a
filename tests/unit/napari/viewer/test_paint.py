"""Lines over linked views, painted without a window."""

from __future__ import annotations

import pytest
from qtpy.QtGui import QColor, QImage, QPainter

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
