"""What changed since an earlier examination: one line a lesion, the sums, nothing proposed."""

from __future__ import annotations

from qtpy.QtCore import Signal

from lesionlens.base.records.analysis import Analysis
from lesionlens.napari.model.wording.followup import lines_of, sums_of, title_of
from lesionlens.napari.widgets.parts import Section, label
from lesionlens.napari.widgets.pick_rows import PickRows


class FollowupBlock(Section):
    """Shows a comparison; hides itself where there is none."""

    gone_to = Signal(object)
    """Id of a candidate."""

    def __init__(self) -> None:
        super().__init__("OVER TIME")
        self._title, self._sums = label("", "dim", wrap=True), label("", "dim", wrap=True)
        self.lines = PickRows()
        self.lines.picked.connect(self.gone_to)
        for widget in (self._title, self.lines, self._sums):
            self.body.addWidget(widget)

    def show_analysis(self, analysis: Analysis | None) -> None:
        """Show what changed, by the outlines and decisions of now."""
        self.setVisible(analysis is not None and analysis.followup is not None)
        if analysis is None or analysis.followup is None:
            return
        self._title.setText(title_of(analysis))
        self._sums.setText(sums_of(analysis))
        self.lines.show_lines(
            [(n, "–" if n is None else str(n), words) for n, words in lines_of(analysis)]
        )
