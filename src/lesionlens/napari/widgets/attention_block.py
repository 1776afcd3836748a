"""Overlay settings: region, off/contour/map, opacity, and the checks of the attention."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QRectF, QSignalBlocker, QSize, Qt
from qtpy.QtGui import QColor, QFontMetrics, QLinearGradient, QPainter, QPaintEvent
from qtpy.QtWidgets import QCheckBox, QSizePolicy, QSlider, QVBoxLayout, QWidget

from lesionlens.base.labels import Region
from lesionlens.napari.colours import map_colours
from lesionlens.napari.commands.table import BY_NAME
from lesionlens.napari.controllers.actions import Actions
from lesionlens.napari.model.choices.choices import Overlay
from lesionlens.napari.model.overlays.maps import MapView
from lesionlens.napari.model.screen.map_layers import ATTENTION
from lesionlens.napari.model.screen.panel_blocks import ShownFocus, ShownMapChoices
from lesionlens.napari.model.screen.screen import Screen
from lesionlens.napari.model.screen.view_model import ShownMap
from lesionlens.napari.widgets.parts import (
    Bars,
    Section,
    Segments,
    combo_box,
    flat_button,
    label,
    row,
    show_fact,
    show_items,
    show_text,
    small_font,
)

_BAR_HEIGHT_PX = 7


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
        return QSize(200, _BAR_HEIGHT_PX + self._line_height + 2)

    @property
    def _line_height(self) -> int:
        return int(QFontMetrics(small_font(self)).height())

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the bar and the ticks."""
        if self._view is None or self._view.top <= 0:
            return
        painter = QPainter(self)
        gradient = QLinearGradient(0, 0, self.width(), 0)
        for position, colour in zip(
            np.linspace(0, 1, len(self._colours)), self._colours, strict=True
        ):
            gradient.setColorAt(float(position), QColor.fromRgbF(*(float(v) for v in colour)))
        painter.fillRect(QRectF(0, 0, self.width(), _BAR_HEIGHT_PX), gradient)
        painter.setFont(small_font(self))
        painter.setPen(self.palette().windowText().color())
        ticks, span = self._view.ticks, self._view.top - self._view.low
        for value, text in ticks:
            self._tick(painter, (value - self._view.low) / span, text)
        painter.end()

    def _tick(self, painter: QPainter, fraction: float, text: str) -> None:
        width = QFontMetrics(small_font(self)).horizontalAdvance(text) + 8.0
        x = fraction * self.width()
        align, left = Qt.AlignmentFlag.AlignHCenter, x - width / 2
        if left < 0:
            align, left = Qt.AlignmentFlag.AlignLeft, x
        elif left + width > self.width():
            align, left = Qt.AlignmentFlag.AlignRight, x - width
        painter.drawText(QRectF(left, _BAR_HEIGHT_PX, width, self._line_height), align, text)


class AttentionBlock(Section):
    """Shows and changes the overlay."""

    def __init__(self, acts: Actions) -> None:
        super().__init__("ATTENTION")
        session = acts.session
        self._region = combo_box("Region whose outline and attention are shown", letters=8)
        self._region.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._region.activated.connect(
            lambda _: session.choose_region(Region(self._region.currentData()))
        )
        self._overlay = Segments(
            [
                (Overlay.OFF, "off", "No overlay (T)"),
                (Overlay.CONTOUR, "contour", "Outlines; box around the candidate in focus (T)"),
                (Overlay.MAP, "map", "Outline and attention map (G)"),
            ]
        )
        self._overlay.chosen.connect(session.choose_overlay)
        self._opacity = QSlider(Qt.Orientation.Horizontal)
        self._opacity.setRange(10, 100)
        self._opacity.setAccessibleName("Opacity of maps, percent")
        self._opacity.valueChanged.connect(lambda value: session.choose_opacity(value / 100))
        self._evidence = flat_button("by sequence")
        self._evidence.setToolTip(BY_NAME["next_evidence"].tip)
        self._evidence.clicked.connect(lambda _=False: acts.next_evidence())
        self._trust = label("", "dim", wrap=True)
        self._show_unreliable = QCheckBox("show it anyway")
        self._show_unreliable.clicked.connect(session.choose_unreliable)
        self._title = label("", wrap=True)
        self._facts = [label("", "dim") for _ in range(4)]
        self._bars = Bars()
        self._no_bars_label = label("", "dim", wrap=True)
        self._hint = label("", "dim", wrap=True)
        self._legend = Legend()
        self._lay_out()

    def _lay_out(self) -> None:
        facts = QVBoxLayout()
        facts.setSpacing(2)
        for pair in (self._facts[:2], self._facts[2:]):
            facts.addLayout(row(*pair, None, spacing=10))
        self.add(
            row(self._region, self._overlay),
            row(label("opacity", "dim"), self._opacity, self._evidence),
            self._legend,
            row(self._trust, self._show_unreliable),
            self._title,
            facts,
            self._bars,
            self._no_bars_label,
            self._hint,
        )

    def show_screen(self, screen: Screen, shown: ShownMap) -> None:
        """Show the settings; hidden before the analysis."""
        self.setVisible(screen.analysed)
        if not screen.analysed:
            self._legend.show_map(None, map_colours(ATTENTION))
            return
        maps, choices = screen.maps, screen.choices
        regions = [(region.display_name, region) for region in maps.regions]
        show_items(self._region, regions, choices.region)
        self._overlay.show_choice(choices.overlay)
        self._overlay.buttons[Overlay.MAP].setEnabled(maps.has_attention and not screen.editing)
        with QSignalBlocker(self._opacity):
            self._opacity.setValue(round(choices.opacity * 100))
        self._evidence.setVisible(maps.has_evidence)
        self._evidence.setEnabled(not screen.editing)
        self._legend.show_map(shown.view, map_colours(shown.role))
        self._show_trust(maps, map_shown=choices.overlay is Overlay.MAP)
        self._show_focus(screen.focus)
        show_text(self._hint, shown.hint)

    def _show_focus(self, focus: ShownFocus) -> None:
        show_text(self._title, focus.title)
        for number, fact_label in enumerate(self._facts):
            show_fact(fact_label, focus.facts[number] if number < len(focus.facts) else None)
        self._bars.show_bars(focus.relevance, focus.deciding)
        self._bars.setVisible(bool(focus.relevance))
        show_text(self._no_bars_label, focus.no_bars)

    def _show_trust(self, maps: ShownMapChoices, *, map_shown: bool) -> None:
        show_fact(self._trust, maps.verdict if map_shown else None)
        failed = maps.verdict is not None and maps.verdict.good is False
        self._show_unreliable.setVisible(map_shown and failed)
        self._show_unreliable.setChecked(not maps.withheld)
