"""The table of candidates, the threshold, and the buttons for decisions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from qtpy.QtCore import QEvent, QModelIndex, QSignalBlocker, Qt
from qtpy.QtWidgets import QHeaderView, QPushButton, QSizePolicy, QSlider, QTableView

from lesionlens.base.labels import Label
from lesionlens.napari.commands.editing import EDIT
from lesionlens.napari.commands.table import BY_NAME
from lesionlens.napari.controllers.actions import Actions
from lesionlens.napari.model.screen.screen import Screen
from lesionlens.napari.qt.candidate_model import COLUMNS, ID_ROLE, CandidateModel, cells_of
from lesionlens.napari.qt.waiting import once_idle, when_idle
from lesionlens.napari.widgets.command_buttons import CommandButtons
from lesionlens.napari.widgets.edit_block import AddRow, EditTools
from lesionlens.napari.widgets.parts import (
    Section,
    flat_button,
    label,
    row,
    scroll_into_view,
    set_role,
    show_rows,
    show_text,
)
from lesionlens.napari.widgets.reason_box import ReasonBox

VISIBLE_ROWS = 5
LOCATION_COLUMN = 1
NARROWEST_TEXTS = ("8", "", "8 × 8 enh.", "8.8 ml", "0.88", "○")
"""Texts that set the minimum width of each column; the second fills the rest."""


class CandidateBlock(Section):
    """Shows the candidates; `run` takes the name of a command."""

    def __init__(self, acts: Actions, run: Callable[[str], object]) -> None:
        self._go_to, session = acts.go_to_candidate, acts.session
        self._count, self._cavity = label("", "dim", wrap=True), label("", "dim", wrap=True)
        self._cavity_colour = label("■")
        self._cavity_colour.setStyleSheet(f"color: {Label.CAVITY.colour}")
        self._cavity_colour.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Preferred)
        super().__init__("CANDIDATES")
        self._commands = commands = CommandButtons(run)
        self._undo = commands.add(flat_button("↶"), "undo", tip="Undo")
        self._redo = commands.add(flat_button("↷"), "redo", tip="Redo")
        self.model = CandidateModel(self)
        self.table = QTableView()
        self._set_up_table()
        self._slider = QSlider(Qt.Orientation.Horizontal)
        self._slider.setRange(0, 100)
        self._slider.setAccessibleName("Threshold: list only candidates with at least this score")
        self._slider.valueChanged.connect(lambda value: session.choose_threshold(value / 100))
        self._floor = label("", "dim")
        self._costs = label("", "dim", wrap=True)
        self._accept = commands.add(QPushButton(), "accept", "Accept")
        self._reject = commands.add(QPushButton(), "reject", "Reject")
        self._defer = commands.add(QPushButton(), "defer", "Defer")
        tip = "Redraw the outline with napari's brush, fill and eraser, and tools"
        self._edit = commands.add(QPushButton(), EDIT, "Edit", tip)
        self._discard = commands.add(flat_button("discard"), "discard_edit")
        self._outline = label("", "dim", wrap=True)
        self.tools, self.adding = EditTools(session, run), AddRow(acts.adder.merge, run)
        self._offered_draft = ""  # interrupted strokes that were already scrolled into view
        self.reason = ReasonBox()
        self.reason.currentTextChanged.connect(session.type_reason)
        self.reason.settled.connect(acts.review_controller.store_reason)
        self.reason.left.connect(self.table.setFocus)
        self._lay_out()

    def _lay_out(self) -> None:
        self.add(
            self._count,
            row(self._cavity_colour, self._cavity, spacing=4),
            self.table,
            row(label("threshold", "dim"), self._slider, self._floor),
            self._costs,
            row(self._accept, self._reject, self._defer, self._edit, spacing=4),
            self.adding,
            row(self._outline, self._discard),
            self.tools,
            row(self.reason, self._undo, self._redo),
        )

    def _set_up_table(self) -> None:
        table = self.table
        show_rows(table, self.model, "Candidates")
        table.setWordWrap(True)
        table.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        header = table.horizontalHeader()
        header.setMinimumSectionSize(22)
        for column in range(len(COLUMNS)):
            kind = QHeaderView.ResizeMode
            header.setSectionResizeMode(
                column, kind.Stretch if column == LOCATION_COLUMN else kind.Fixed
            )
        self._fit_timer = once_idle(self._fit_rows, self)
        self._focus_timer = once_idle(self._select_focus, self)
        self._scroll_timer = once_idle(lambda: scroll_into_view(self._reject, table), self)
        header.sectionResized.connect(self._on_resized)
        table.selectionModel().currentRowChanged.connect(self._on_row)
        table.clicked.connect(self._on_click)

    def show_screen(self, screen: Screen) -> None:
        """Show the candidates of a screen; hidden before the analysis."""
        self.setVisible(screen.analysed or screen.preliminary)
        if not (screen.analysed or screen.preliminary):
            return
        self._count.setText(_count_text(screen))
        self._cavity.setText(screen.cavity)
        for widget in (self._cavity_colour, self._cavity):
            widget.setVisible(bool(screen.cavity))
        selection = self.table.selectionModel()
        changed = screen.candidates != self.model.rows
        if changed:
            with QSignalBlocker(selection):
                self.model.replace(screen.candidates)
        row_number = self._select_focus()
        self._fit_table()
        if changed and row_number is not None:  # also when a row that was scrolled away is decided
            self.table.scrollTo(self.model.index(row_number, 0))
        self._show_threshold(screen)
        self._commands.show_screen(screen)
        self._show_reason(screen)
        if screen.editing and self.tools.isHidden():
            when_idle(partial(scroll_into_view, self.tools, self._edit))
        if screen.draft_text and not self._offered_draft:
            when_idle(partial(scroll_into_view, self._reject, self.adding))
        self._offered_draft = screen.draft_text
        self.tools.show_screen(screen)
        self.adding.show_screen(screen)
        self._edit.setText(BY_NAME[EDIT].captioned("Done" if screen.editing else "Edit"))
        set_role(self._edit, "primary" if screen.editing else "")
        show_text(self._outline, screen.outline_text)
        self._discard.setVisible(screen.editing)

    def _select_focus(self) -> int | None:
        """Select the row of the candidate in focus, if any, and return its number."""
        selection = self.table.selectionModel()
        row_number = next((n for n, row in enumerate(self.model.rows) if row.focus), None)
        with QSignalBlocker(selection):
            if row_number is None:
                self.table.clearSelection()
                self.table.setCurrentIndex(QModelIndex())
            elif self.table.currentIndex().row() != row_number or not selection.hasSelection():
                self.table.selectRow(row_number)
                self._scroll_timer.start()
        self.table.viewport().update()
        return row_number

    def changeEvent(self, event: QEvent) -> None:
        """Fit the table after a change of font."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.FontChange, QEvent.Type.StyleChange):
            when_idle(self._fit_table)

    def _fit_table(self) -> None:
        table, header = self.table, self.table.horizontalHeader()
        font = table.fontMetrics()
        texts = [NARROWEST_TEXTS, *(cells_of(candidate) for candidate in self.model.rows)]
        for column, title in enumerate(COLUMNS):
            if column != LOCATION_COLUMN:
                text_width = max(font.horizontalAdvance(cells[column]) for cells in texts)
                title_width = header.fontMetrics().horizontalAdvance(title)
                header.resizeSection(column, max(text_width + 8, title_width + 6))
        self._fit_rows()

    def _fit_rows(self) -> None:
        """Wrap long locations; show five rows."""
        table = self.table
        line_height = table.fontMetrics().height() + 12
        table.verticalHeader().setDefaultSectionSize(line_height)
        heights = [line_height]
        for row_number in range(len(self.model.rows)):
            table.setRowHeight(row_number, max(line_height, table.sizeHintForRow(row_number) + 6))
            heights.append(table.rowHeight(row_number))
        visible_height = sum(heights[1 : VISIBLE_ROWS + 1]) or line_height
        table.setFixedHeight(table.horizontalHeader().sizeHint().height() + visible_height + 4)

    def _show_threshold(self, screen: Screen) -> None:
        with QSignalBlocker(self._slider):
            self._slider.setMinimum(round(screen.threshold.floor * 100))
            self._slider.setValue(round(screen.choices.threshold * 100))
        self._floor.setText(screen.threshold.text)
        show_text(self._costs, screen.threshold.costs)
        self._slider.setToolTip(screen.threshold.source)

    def _on_resized(self, column: int, _: int, __: int) -> None:
        if column == LOCATION_COLUMN:  # emitted before a stretched section has its new size
            self._fit_timer.start()

    def _on_row(self, current: QModelIndex, _: QModelIndex) -> None:
        if current.isValid():
            self._go_to(int(self.model.data(current, ID_ROLE)))
            self._focus_timer.start()  # the reader may not go there now

    def _on_click(self, index: QModelIndex) -> None:
        focused = next((r for r in self.model.rows if r.focus), None)
        clicked = int(self.model.data(index, ID_ROLE))
        if focused is not None and focused.id == clicked:
            self._go_to(clicked)

    def _show_reason(self, screen: Screen) -> None:
        """Show the reason of the candidate in focus; keep the cursor if unchanged."""
        self.reason.refuse(screen.decision_obstacle)
        if self.reason.currentText() != screen.reason:
            with QSignalBlocker(self.reason):
                self.reason.setCurrentText(screen.reason)


def _count_text(screen: Screen) -> str:
    if screen.threshold.n_below:
        return f"{screen.conclusion} · {screen.threshold.n_below} below the threshold"
    return screen.conclusion
