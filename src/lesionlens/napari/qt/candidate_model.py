"""Qt table model of the candidates of a screen."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QModelIndex, QObject, Qt
from qtpy.QtGui import QColor
from typing_extensions import override

from lesionlens.napari.model.screen.screen import ShownCandidate
from lesionlens.napari.model.wording.review_signs import STATE_SIGNS
from lesionlens.napari.qt.rows_model import CENTRE, LEFT, RIGHT, RowsModel, plain_tooltip

COLUMNS = ("", "Location", "Ø mm, of", "Whole", "Score", "")
HEADINGS = (
    "Number",
    "Approximate location of the largest part",
    "Longest axial diameter and its perpendicular: of the enhancing part if there is one, else "
    "of the whole region",
    "Volume of the whole region: core, oedema or infiltration, and enhancing part",
    "Score of the network, 0 to 1",
    "○ unreviewed, ✓ accepted, ✕ rejected, … deferred, ✎ redrawn",
)
ID_ROLE = int(Qt.ItemDataRole.UserRole) + 1

_ALIGNMENTS = (CENTRE, LEFT, RIGHT, RIGHT, RIGHT, CENTRE)


_DARKER = 150
"""Factor of `QColor.darker` on a light background, percent."""


class CandidateModel(RowsModel[ShownCandidate]):
    """Candidates by falling score; columns: number, location, size, volume, score, state.

    The selection is kept if the ids are unchanged (after a decision or a new focus).
    """

    def __init__(self, parent: QObject) -> None:
        super().__init__(COLUMNS, _ALIGNMENTS, lambda row: row.id, parent)
        self._factor = 100

    def show_on(self, *, light: bool) -> None:
        """Darken the colours of the states on a light background, where they are too pale."""
        self._factor = _DARKER if light else 100

    @override
    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        """Return title, alignment or tooltip of a column."""
        described = (Qt.ItemDataRole.ToolTipRole, Qt.ItemDataRole.AccessibleTextRole)
        if orientation == Qt.Orientation.Horizontal and role in described:
            return HEADINGS[section]
        return super().headerData(section, orientation, role)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return text, colour, alignment, tooltip or id of a cell."""
        if not index.isValid():
            return None
        row = self.rows[index.row()]
        values_by_role = {
            int(Qt.ItemDataRole.DisplayRole): cells_of(row)[index.column()],
            int(Qt.ItemDataRole.TextAlignmentRole): _ALIGNMENTS[index.column()],
            int(Qt.ItemDataRole.ToolTipRole): plain_tooltip(row.details),
            int(Qt.ItemDataRole.AccessibleTextRole): _accessible_text(row),
            ID_ROLE: row.id,
        }
        if role == Qt.ItemDataRole.ForegroundRole:
            return QColor(row.colour).darker(self._factor) if index.column() in (0, 5) else None
        return values_by_role.get(int(role))


def cells_of(row: ShownCandidate) -> tuple[str, ...]:
    """Return the text of each column."""
    return (str(row.id), row.location, row.size, row.volume, row.score, STATE_SIGNS[row.state])


def _accessible_text(row: ShownCandidate) -> str:
    return (
        f"candidate {row.id}, {row.location}, {row.size} (mm), whole {row.volume}, "
        f"score {row.score}, {row.state}"
    )
