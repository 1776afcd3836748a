"""The rows of a worklist as a Qt table."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, QObject, Qt
from qtpy.QtGui import QFont

from lesionlens.worklist.records import StudyState, WorklistRow

COLUMNS = (
    "Patient", "Date", "Study", "Sequences", "State", "Others", "Found", "Score", "Warnings",
)  # fmt: skip
SIGNS = {
    StudyState.NEW: "·",
    StudyState.ANALYSED: "○",
    StudyState.IN_REVIEW: "◐",
    StudyState.SIGNED: "✓",
}
_RIGHT = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
_FIGURES = (6, 7)


class WorklistModel(QAbstractTableModel):
    """One row a study, or a study in a session of a reader study; the open one is bold."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._rows: tuple[WorklistRow, ...] = ()
        self._cells: dict[tuple[str, int], tuple[str, ...]] = {}
        self._current: tuple[str, int] | None = None

    @property
    def rows(self) -> tuple[WorklistRow, ...]:
        """What is shown."""
        return self._rows

    def show(self, rows: tuple[WorklistRow, ...], current: tuple[str, int] | None) -> None:
        """Show these rows; where the studies are the same, selection and scrolling stay."""
        if rows == self._rows and current == self._current:
            return
        same = [row.key for row in rows] == [row.key for row in self._rows]
        self._cells = {row.key: cells(row) for row in rows}
        if same:
            self._rows, self._current = rows, current
            if rows:
                last = self.index(len(rows) - 1, len(COLUMNS) - 1)
                self.dataChanged.emit(self.index(0, 0), last)
            return
        self.beginResetModel()
        self._rows, self._current = rows, current
        self.endResetModel()

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        """Return how many rows are shown."""
        return 0 if parent is not None and parent.isValid() else len(self._rows)

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        """Return how many columns there are."""
        return 0 if parent is not None and parent.isValid() else len(COLUMNS)

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        """Return a column's heading."""
        if orientation == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.DisplayRole:
            return COLUMNS[section]
        return None

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return words, tooltip, alignment or font of a cell."""
        row, column = self._rows[index.row()], index.column()
        if role == Qt.ItemDataRole.DisplayRole:
            return self._cells[row.key][column]
        if role == Qt.ItemDataRole.ToolTipRole:
            return "\n".join(row.entry.warnings) if column == 8 else self._cells[row.key][column]
        if role == Qt.ItemDataRole.TextAlignmentRole and column in _FIGURES:
            return int(_RIGHT)
        if role == Qt.ItemDataRole.FontRole and row.key == self._current:
            font = QFont()
            font.setBold(True)
            return font
        return None


def cells(row: WorklistRow) -> tuple[str, ...]:
    """Return a row as texts, one a column.

    Examples
    --------
    >>> from lesionlens.worklist.records import StudyEntry
    >>> row = WorklistRow(StudyEntry("A", "", "P1", "2026-01-05", ("t1c",)), StudyState.NEW)
    >>> cells(row)[:5]
    ('P1', '2026-01-05', 'A', 'T1c', '· new')
    """
    entry = row.entry
    arm = f"  {row.session}: {row.arm.value}" if row.session else ""
    warned = len(entry.warnings)
    return (
        entry.patient,
        entry.date,
        entry.name + arm,
        " ".join(_NAMES.get(name, name) for name in entry.sequences),
        f"{SIGNS[row.state]} {row.state.value}",
        ", ".join(f"{name} {SIGNS[state]}" for name, state in row.others),
        "" if entry.candidates is None else str(entry.candidates),
        "" if entry.highest is None else f"{entry.highest:.2f}",
        f"⚠ {warned}: {entry.warnings[0]}" if warned else "",
    )


_NAMES = {"t1": "T1", "t1c": "T1c", "t2": "T2", "flair": "FLAIR"}
