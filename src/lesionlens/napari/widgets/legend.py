"""The colour bar of the shown map."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QRectF, QSize, Qt
from qtpy.QtGui import QColor, QFontMetrics, QLinearGradient, QPainter, QPaintEvent
from qtpy.QtWidgets import QSizePolicy, QWidget

from lesionlens.napari.model.overlays.maps import MapView
from lesionlens.napari.widgets.parts import small_font

_BAR = 7


class Legend(QWidget):
    """A colour bar with ticks, and their meaning in the tooltip."""

    def __init__(self) -> None:
        super().__init__()
        self._view: MapView | None = None
        self.setProperty("role", "painted")
        self._colours: NDArray[np.float64] = np.zeros((0, 4))
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_map(self, view: MapView | None, colours: NDArray[np.float64]) -> None:
        """Show a map's scale in (N, 4) colours from 0 to 1, lowest first; None hides it."""
        self.setVisible(view is not None)
        self._view, self._colours = view, colours
        if view is not None:
            self.setToolTip(view.meaning)
            self.update()

    def sizeHint(self) -> QSize:
        """Return the size of the bar and one line of ticks."""
        return QSize(200, _BAR + self._line + 2)

    @property
    def _line(self) -> int:
        return int(QFontMetrics(small_font(self)).height())

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002
        """Draw the bar and the ticks."""
        if self._view is None or self._view.top <= 0:
            return
        painter = QPainter(self)
        gradient = QLinearGradient(0, 0, self.width(), 0)
        for place, colour in zip(np.linspace(0, 1, len(self._colours)), self._colours, strict=True):
            gradient.setColorAt(float(place), QColor.fromRgbF(*(float(v) for v in colour)))
        painter.fillRect(QRectF(0, 0, self.width(), _BAR), gradient)
        painter.setFont(small_font(self))
        painter.setPen(self.palette().windowText().color())
        ticks, span = self._view.ticks, self._view.top - self._view.low
        for value, words in ticks:
            self._tick(painter, (value - self._view.low) / span, words)
        painter.end()

    def _tick(self, painter: QPainter, share: float, words: str) -> None:
        wide = QFontMetrics(small_font(self)).horizontalAdvance(words) + 8.0
        width, at = wide, share * self.width()
        align, left = Qt.AlignmentFlag.AlignHCenter, at - width / 2
        if left < 0:
            align, left = Qt.AlignmentFlag.AlignLeft, at
        elif left + width > self.width():
            align, left = Qt.AlignmentFlag.AlignRight, at - width
        painter.drawText(QRectF(left, _BAR, width, self._line), align, words)
