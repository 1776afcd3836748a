"""What scored too little to be a candidate: folded away below the candidates, never counted."""

from __future__ import annotations

from functools import partial

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QToolButton

from lesionlens._napari.model.screen import Screen, ShownConsidered
from lesionlens._napari.widgets.parts import Section, label, row

MOST = 12
"""Lines at most; the rest scored still less."""


class ConsideredBlock(Section):
    """Lists what was dismissed; a click brings its place into view."""

    looked_at = Signal(object)
    """RAS+ mm."""

    def __init__(self) -> None:
        super().__init__("ALSO CONSIDERED")
        self._shown: tuple[ShownConsidered, ...] = ()
        self.lines: list[QToolButton] = []
        self.body.addWidget(
            label("Drawn by the network, but scored too little to be flagged.", "dim", wrap=True)
        )
        self.heading.setChecked(False)

    def show_screen(self, screen: Screen) -> None:
        """Show what was considered and dismissed; hides itself where nothing was."""
        self.setVisible(bool(screen.considered))
        if screen.considered == self._shown:
            return
        self._shown = screen.considered
        for line in self.lines:
            self.body.removeWidget(line)
            line.deleteLater()
        self.lines = []
        for one in screen.considered[:MOST]:
            line = QToolButton()
            line.setText(one.words)
            line.setProperty("role", "flat")
            line.setToolTip("Show this place")
            line.clicked.connect(partial(self._emit, one))
            self.lines.append(line)
            self.body.addLayout(row(line, None))

    def _emit(self, one: ShownConsidered, _: bool = False) -> None:
        self.looked_at.emit(one.point_mm)
