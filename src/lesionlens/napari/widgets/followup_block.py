"""Changes since an earlier examination: one line per lesion, and the sums."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import QPointF, QSize, Qt
from qtpy.QtGui import QColor, QFontMetricsF, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

from lesionlens.napari.model.wording.followup import ShownFollowup
from lesionlens.napari.widgets.parts import Section, label, show_text, small_font
from lesionlens.napari.widgets.pick_rows import PickRows
from lesionlens.results.export.followup import (
    CURVES_BEGIN,
    HEIGHT,
    WIDTH,
    Curves,
    assign_label_rows,
    spread_label_positions,
)

_PLOT_HEIGHT_PX = 120
_THIN, _THICK, _DOT_RADIUS = 1.4, 3.0, 2.5
_GAP = 6.0
_GRID_COLOUR, _NAME_OFFSET = QColor(128, 140, 160, 90), 4.0


class CurvePlot(QWidget):
    """Curves over days in millilitres; the one in focus is thicker."""

    def __init__(self) -> None:
        super().__init__()
        self.curves: Curves | None = None
        self._focus: int | None = None
        self.setProperty("role", "painted")
        self.setAccessibleName("Volume of each lesion over all examinations")
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_curves(self, curves: Curves | None, focus: int | None) -> None:
        """Show curves with that of a candidate thicker; None hides them."""
        self.setVisible(curves is not None)
        self.curves, self._focus = curves, focus
        self.update()

    def sizeHint(self) -> QSize:
        """Return the preferred size."""
        return QSize(200, _PLOT_HEIGHT_PX)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw levels, days and curves."""
        if self.curves is None:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setFont(small_font(self))
        text_colour = self.palette().windowText().color()
        for y, level in self.curves.levels:
            painter.setPen(_GRID_COLOUR)
            painter.drawLine(QPointF(self.begin, self._at(0.0, y).y()), self._at(WIDTH, y))
            painter.setPen(text_colour)
            baseline = max(self._at(0.0, y).y() - 2.0, float(painter.fontMetrics().ascent()))
            painter.drawText(QPointF(0.0, baseline), level)
        for left, day in self.days:
            painter.drawText(QPointF(left, self.height() - 2.0), day)
        ends = [self._at(*curve.points[-1]) for curve in self.curves.lines]
        ascent = float(painter.fontMetrics().ascent())
        names = spread_label_positions(
            [(end.x(), end.y()) for end in ends], ascent, self.height() - 2 * ascent
        )
        for curve, name in zip(self.curves.lines, names, strict=True):
            in_focus = curve.candidate is not None and curve.candidate == self._focus
            painter.setPen(QPen(QColor(curve.colour), _THICK if in_focus else _THIN))
            points = [self._at(x, y) for x, y in curve.points]
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawPolyline(QPolygonF(points))
            painter.setBrush(QColor(curve.colour))
            for point in points:
                painter.drawEllipse(point, _DOT_RADIUS, _DOT_RADIUS)
            painter.drawText(
                QPointF(points[-1].x(), name) + QPointF(_NAME_OFFSET, _NAME_OFFSET), curve.name
            )
        painter.end()

    @property
    def days(self) -> list[tuple[float, str]]:
        """The shown days, each with its left edge in pixels; without those that have no room."""
        if self.curves is None:
            return []
        metrics, labels = QFontMetricsF(small_font(self)), []
        for n, (x, day) in enumerate(self.curves.ticks):
            width = float(metrics.horizontalAdvance(day))
            left = max(self._at(x, 0.0).x() - (width if n else 0.0), 0.0)
            labels.append((left, left + width + _GAP, day))
        rows = assign_label_rows([(left, right) for left, right, _ in labels], 1)
        placed = zip(labels, rows, strict=True)
        return [(left, day) for (left, _, day), row in placed if row is not None]

    @property
    def begin(self) -> float:
        """Where the curves begin, right of the levels' names: pixels from the left."""
        if self.curves is None:
            return 0.0
        metrics = QFontMetricsF(small_font(self))
        widths = [float(metrics.horizontalAdvance(level)) for _, level in self.curves.levels]
        return _GAP + max(widths)

    def _at(self, x: float, y: float) -> QPointF:
        fraction = (x - CURVES_BEGIN) / (WIDTH - CURVES_BEGIN)
        right = self.begin + fraction * (self.width() - self.begin)
        return QPointF(right, y * self.height() / HEIGHT)


class FollowupBlock(Section):
    """Shows a comparison; hidden if there is none. `go_to` takes the id of a candidate."""

    def __init__(self, go_to: Callable[[int], object]) -> None:
        super().__init__("OVER TIME")
        self._title, self._sums = label("", "dim", wrap=True), label("", "dim", wrap=True)
        self._doubt = label("", "warn", wrap=True)
        self.lines = PickRows(go_to)
        self.curves = CurvePlot()
        self.add(self._title, self._doubt, self.lines, self.curves, self._sums)

    def show_followup(self, shown: ShownFollowup | None) -> None:
        """Show the changes."""
        self.setVisible(shown is not None)
        if shown is None:
            return
        self._title.setText(shown.title)
        show_text(self._doubt, shown.doubt)
        self._sums.setText(shown.sums)
        self.curves.show_curves(shown.curves, shown.focus)
        self.lines.show_lines(
            [(n, "–" if n is None else str(n), words) for n, words in shown.lines]
        )
