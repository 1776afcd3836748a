"""What changed since an earlier examination: one line a lesion, the sums, nothing proposed."""

from __future__ import annotations

from functools import partial

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QToolButton, QVBoxLayout, QWidget

from lesionlens._napari.model.followup_lines import lines_of, sums_of, title_of
from lesionlens._napari.widgets.parts import Section, label, row
from lesionlens.records.analysis import Analysis


class FollowupBlock(Section):
    """Shows a comparison; hides itself where there is none."""

    gone_to = Signal(int)

    def __init__(self) -> None:
        super().__init__("OVER TIME")
        self._title, self._sums = label("", "dim", wrap=True), label("", "dim", wrap=True)
        self._shown: tuple[tuple[int | None, str], ...] = ()
        self._list = QWidget()
        self._lines = QVBoxLayout(self._list)
        self._lines.setContentsMargins(0, 0, 0, 0)
        self._lines.setSpacing(0)
        for widget in (self._title, self._list, self._sums):
            self.body.addWidget(widget)

    @property
    def words(self) -> tuple[str, ...]:
        """The lines that are shown."""
        return tuple(words for _, words in self._shown)

    def show_analysis(self, analysis: Analysis | None) -> None:
        """Show what changed, by the outlines and decisions of now."""
        self.setVisible(analysis is not None and analysis.followup is not None)
        if analysis is None or analysis.followup is None:
            return
        self._title.setText(title_of(analysis))
        self._sums.setText(sums_of(analysis))
        lines = lines_of(analysis)
        if lines == self._shown:
            return
        self._shown = lines
        while (item := self._lines.takeAt(0)) is not None:
            held = item.layout()
            while held is not None and (one := held.takeAt(0)) is not None:
                if one.widget() is not None:
                    one.widget().deleteLater()
        for number, words in lines:
            line = QToolButton()
            line.setText(words)
            line.setProperty("role", "flat")
            line.setEnabled(number is not None)
            line.clicked.connect(partial(self._emit, number))
            self._lines.addLayout(row(line, None))

    def _emit(self, number: int | None, _: bool = False) -> None:
        if number is not None:
            self.gone_to.emit(number)
