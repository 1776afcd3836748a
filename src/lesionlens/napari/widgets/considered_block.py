"""Dismissed regions, collapsed below the candidates and never counted."""

from __future__ import annotations

from collections.abc import Callable

from lesionlens.base.records.findings import Point
from lesionlens.base.text import score_digits
from lesionlens.napari.model.screen.screen import Screen
from lesionlens.napari.model.wording.candidates import considered_text
from lesionlens.napari.widgets.parts import Section, label
from lesionlens.napari.widgets.pick_rows import PickRows

MAX_LINES = 12
"""Maximum number of lines, highest scores first."""


class ConsideredBlock(Section):
    """Lists dismissed regions; a click goes to the position, RAS+ mm."""

    def __init__(self, go_to: Callable[[Point], object]) -> None:
        super().__init__("ALSO CONSIDERED")
        self.lines = PickRows(go_to)
        hint = "Outlined by the network, but scored too low to be flagged."
        self.add(label(hint, "dim", wrap=True), self.lines)
        self.heading.setChecked(False)

    def show_screen(self, screen: Screen) -> None:
        """Show the dismissed regions; hidden if there are none."""
        self.setVisible(bool(screen.considered))
        shown = screen.considered[:MAX_LINES]
        self.lines.show_lines(
            [(c.peak_mm, score_digits(c.score), considered_text(c)) for c in shown]
        )
