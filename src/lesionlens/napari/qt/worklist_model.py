"""Qt table model of a worklist."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QModelIndex, QObject, Qt
from qtpy.QtGui import QFont

from lesionlens.base.labels import MrSequence
from lesionlens.napari.model.wording.candidates import score_text
from lesionlens.napari.qt.rows_model import LEFT, RIGHT, RowsModel, plain_tooltip
from lesionlens.site.database.records import StudyState, WorklistRow

COLUMNS = (
    "Patient", "Date", "Study", "Sequences", "State", "Others", "Found", "Score", "Warnings",
)  # fmt: skip
SIGNS = {
    StudyState.NEW: "·",
    StudyState.ANALYSED: "○",
    StudyState.IN_REVIEW: "◐",
    StudyState.SIGNED: "✓",
}
_ALIGNMENTS = (LEFT, LEFT, LEFT, LEFT, LEFT, LEFT, RIGHT, RIGHT, LEFT)


class WorklistModel(RowsModel[WorklistRow]):
    """One row per study, or per study and session of a reader study; the open one is bold."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(COLUMNS, _ALIGNMENTS, lambda row: row.key, parent)
        self._cells: dict[tuple[str, int], tuple[str, ...]] = {}
        self._current: tuple[str, int] | None = None

    def show(self, rows: tuple[WorklistRow, ...], current: tuple[str, int] | None) -> None:
        """Show these rows, and which study is open."""
        if rows == self.rows and current == self._current:
            return
        self._cells, self._current = {row.key: cells(row) for row in rows}, current
        self.replace(rows)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return text, tooltip, alignment or font of a cell."""
        row, column = self.rows[index.row()], index.column()
        if role == Qt.ItemDataRole.DisplayRole:
            return self._cells[row.key][column]
        if role == Qt.ItemDataRole.ToolTipRole:
            warnings = "\n".join(row.entry.warnings)
            cell = self._cells[row.key][column]
            return plain_tooltip(warnings if column == 8 else cell)
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return _ALIGNMENTS[column]
        if role == Qt.ItemDataRole.FontRole and row.key == self._current:
            font = QFont()
            font.setBold(True)
            return font
        return None


def cells(row: WorklistRow) -> tuple[str, ...]:
    """Return a row as texts, one per column.

    Examples
    --------
    >>> from lesionlens.site.database.records import StudyEntry
    >>> row = WorklistRow(StudyEntry("A", "", "P1", "2026-01-05", ("t1c",)), StudyState.NEW)
    >>> cells(row)[:5]
    ('P1', '2026-01-05', 'A', 'T1c', '· new')
    """
    entry = row.entry
    arm = f"  {row.session}: {row.arm.value}" if row.session else ""
    warning_count = len(entry.warnings)
    return (
        entry.patient,
        entry.date,
        entry.name + arm,
        " ".join(_NAMES.get(name, name) for name in entry.sequences),
        f"{SIGNS[row.state]} {row.state.value}",
        ", ".join(f"{name} {SIGNS[state]}" for name, state in row.other_states),
        "" if entry.candidates is None else str(entry.candidates),
        "" if entry.highest is None else score_text(entry.highest),
        f"⚠ {warning_count}: {entry.warnings[0]}" if warning_count else "",
    )


_NAMES = {sequence.value: sequence.display_name for sequence in MrSequence}
