"""Common base of the window's tables: frozen rows under fixed headings."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from html import escape
from typing import Any, Generic, TypeVar

from qtpy.QtCore import QAbstractTableModel, QModelIndex, QObject, Qt

Row = TypeVar("Row")
LEFT = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
RIGHT = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
CENTRE = Qt.AlignmentFlag.AlignCenter


class RowsModel(QAbstractTableModel, Generic[Row]):
    """Rows that are replaced together; selection and scrolling are kept if the keys are unchanged.

    Parameters
    ----------
    alignments : sequence of Qt.AlignmentFlag
        Alignment of each column, of its heading too.
    """

    def __init__(
        self,
        columns: Sequence[str],
        alignments: Sequence[Qt.AlignmentFlag],
        key: Callable[[Row], Hashable],
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._columns, self._alignments, self._key = columns, alignments, key
        self.rows: tuple[Row, ...] = ()

    def replace(self, rows: tuple[Row, ...]) -> None:
        """Show these rows."""
        if [self._key(row) for row in rows] == [self._key(row) for row in self.rows]:
            self.rows = rows
            if rows:
                last_index = self.index(len(rows) - 1, len(self._columns) - 1)
                self.dataChanged.emit(self.index(0, 0), last_index)
            return
        self.beginResetModel()
        self.rows = rows
        self.endResetModel()

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        """Return the number of rows."""
        return 0 if parent is not None and parent.isValid() else len(self.rows)

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        """Return the number of columns."""
        return 0 if parent is not None and parent.isValid() else len(self._columns)

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        """Return a column's heading, or its alignment."""
        if orientation == Qt.Orientation.Horizontal:
            if role == Qt.ItemDataRole.DisplayRole:
                return self._columns[section]
            if role == Qt.ItemDataRole.TextAlignmentRole:
                return self._alignments[section]
        return None


def plain_tooltip(text: str) -> str:
    """Return a text of unknown origin as a tooltip that shows it as it is.

    Qt would open the file that `<img src=FILE>` in the name of a series refers to.

    Examples
    --------
    >>> plain_tooltip("T1 <2 mm>")
    'T1 <2 mm>'
    >>> plain_tooltip("T1 <b>post")
    '<span style="white-space: pre-wrap">T1 &lt;b&gt;post</span>'
    """
    if not Qt.mightBeRichText(text):
        return text
    return f'<span style="white-space: pre-wrap">{escape(text)}</span>'
