"""Overlay settings: region, off/contour/map, opacity, and the checks of the attention."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QLabel,
    QSizePolicy,
    QSlider,
    QToolButton,
    QVBoxLayout,
)

from lesionlens.base.labels import Region
from lesionlens.napari.model.choices.choices import Overlay
from lesionlens.napari.model.screen.screen import Screen
from lesionlens.napari.model.screen.shown_map import ShownMap
from lesionlens.napari.viewer.colours import ATTENTION, map_colours
from lesionlens.napari.widgets.layer_chooser import LayerChooser
from lesionlens.napari.widgets.legend import Legend
from lesionlens.napari.widgets.parts import Bars, Section, Segments, label, row, show_fact


def _fact_rows(facts: list[QLabel]) -> QVBoxLayout:
    """Arrange two facts per row."""
    rows = QVBoxLayout()
    rows.setSpacing(2)
    for some in (facts[:2], facts[2:]):
        rows.addLayout(row(*some, None, spacing=10))
    return rows


def _region_list() -> QComboBox:
    """Return the list of regions, which fills its row."""
    made = QComboBox()
    made.setMinimumContentsLength(8)
    made.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    made.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    made.setAccessibleName("Region whose outline and attention are shown")
    return made


class AttentionBlock(Section):
    """Shows and changes the overlay."""

    region_chosen = Signal(object)
    overlay_chosen = Signal(object)
    opacity_chosen = Signal(float)
    uncertainty_chosen = Signal(bool)
    unreliable_chosen = Signal(bool)
    probe_ended = Signal()

    def __init__(self) -> None:
        super().__init__("ATTENTION")
        self._region = _region_list()
        self._region.activated.connect(
            lambda _: self.region_chosen.emit(Region(self._region.currentData()))
        )
        self.layer_chooser = LayerChooser()
        self._overlay = Segments(
            [
                (Overlay.OFF, "off", "No overlay (T)"),
                (
                    Overlay.CONTOUR,
                    "contour",
                    "Outlines, box of the one in focus (T)",
                ),
                (Overlay.MAP, "map", "Outline and attention map (G)"),
            ]
        )
        self._overlay.chosen.connect(self.overlay_chosen)
        self._opacity = QSlider(Qt.Orientation.Horizontal)
        self._opacity.setRange(10, 100)
        self._opacity.setAccessibleName("Opacity of maps, percent")
        self._opacity.valueChanged.connect(lambda value: self.opacity_chosen.emit(value / 100))
        self._uncertainty = QCheckBox("uncertainty")
        self._uncertainty.clicked.connect(self.uncertainty_chosen)
        self._trust = label("", "dim", wrap=True)
        self._anyway = QCheckBox("show it anyway")
        self._anyway.clicked.connect(self.unreliable_chosen)
        self._title = label("", wrap=True)
        self._without = label("", "dim", wrap=True)
        self._facts = [label("", "dim") for _ in range(4)]
        self._bars = Bars()
        self._no_bars = label("", "dim", wrap=True)
        self._probe = QToolButton()
        self._probe.setText("✕ probe")
        self._probe.setAccessibleName("Close the probe")
        self._probe.setProperty("role", "flat")
        self._probe.clicked.connect(lambda _=False: self.probe_ended.emit())
        self._hint = label("", "dim", wrap=True)
        self._legend = Legend()
        self._lay_out()

    def _lay_out(self) -> None:
        self.body.addLayout(row(self._region, self._overlay))
        self.body.addWidget(self.layer_chooser)
        self.body.addLayout(row(label("opacity", "dim"), self._opacity, self._uncertainty))
        self.body.addWidget(self._legend)
        self.body.addLayout(row(self._trust, self._anyway))
        self.body.addWidget(self._title)
        self.body.addLayout(_fact_rows(self._facts))
        self.body.addWidget(self._bars)
        self.body.addWidget(self._no_bars)
        self.body.addWidget(self._without)
        self.body.addLayout(row(self._hint, self._probe))

    def show_screen(self, screen: Screen, shown: ShownMap) -> None:
        """Show the settings; hidden before the analysis."""
        self.setVisible(screen.analysed)
        if not screen.analysed:
            self._legend.show_map(None, map_colours(ATTENTION))
            return
        self._show_regions(screen)
        self._overlay.show_choice(screen.overlay)
        self._overlay.button(Overlay.MAP).setEnabled(screen.has_attention)
        blocked = self._opacity.blockSignals(True)
        self._opacity.setValue(round(screen.opacity * 100))
        self._opacity.blockSignals(blocked)
        self._uncertainty.setVisible(screen.has_uncertainty)
        self._uncertainty.setChecked(screen.scene.uncertainty)
        self._legend.show_map(shown.view, map_colours(shown.role))
        self.layer_chooser.show_screen(screen)
        self._show_trust(screen)
        self._title.setText(screen.focus_title)
        self._title.setVisible(bool(screen.focus_title))
        for number, fact_label in enumerate(self._facts):
            show_fact(fact_label, screen.facts[number] if number < len(screen.facts) else None)
        self._bars.show_bars(screen.relevance, screen.deciding)
        self._bars.setVisible(bool(screen.relevance))
        self._no_bars.setText(screen.no_bars)
        self._no_bars.setVisible(bool(screen.no_bars))
        self._without.setText(screen.without)
        self._without.setVisible(bool(screen.without))
        self._probe.setVisible(screen.scene.probe)
        self._hint.setText(shown.hint)
        self._hint.setVisible(bool(shown.hint))

    def _show_regions(self, screen: Screen) -> None:
        offered = self._region
        if [offered.itemData(n) for n in range(offered.count())] != list(screen.regions):
            offered.clear()
            for region in screen.regions:
                offered.addItem(region.display_name, region)
        offered.setCurrentIndex(offered.findData(screen.region))

    def _show_trust(self, screen: Screen) -> None:
        asked = screen.overlay is Overlay.MAP
        show_fact(self._trust, screen.verdict if asked else None)
        failed = screen.verdict is not None and screen.verdict.good is False
        self._anyway.setVisible(asked and failed)
        self._anyway.setChecked(not screen.withheld)
