"""Changes since an earlier examination: one line per lesion, and the sums."""

from __future__ import annotations

from qtpy.QtCore import Signal

from lesionlens.napari.model.wording.followup import ShownFollowup
from lesionlens.napari.widgets.curve_plot import CurvePlot
from lesionlens.napari.widgets.parts import Section, label
from lesionlens.napari.widgets.pick_rows import PickRows


class FollowupBlock(Section):
    """Shows a comparison; hidden if there is none."""

    go_to_requested = Signal(object)
    """Id of a candidate."""

    def __init__(self) -> None:
        super().__init__("OVER TIME")
        self._title, self._sums = label("", "dim", wrap=True), label("", "dim", wrap=True)
        self._doubt = label("", "warn", wrap=True)
        self.lines = PickRows()
        self.lines.picked.connect(self.go_to_requested)
        self.curves = CurvePlot()
        for widget in (self._title, self._doubt, self.lines, self.curves, self._sums):
            self.body.addWidget(widget)

    def show_followup(self, shown: ShownFollowup | None) -> None:
        """Show the changes."""
        self.setVisible(shown is not None)
        if shown is None:
            return
        self._title.setText(shown.title)
        self._doubt.setText(shown.doubt)
        self._doubt.setVisible(bool(shown.doubt))
        self._sums.setText(shown.sums)
        self.curves.show_curves(shown.curves, shown.focus)
        self.lines.show_lines(
            [(n, "–" if n is None else str(n), words) for n, words in shown.lines]
        )
