"""Preparation settings: collapsed, and stored as preferences."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtGui import QStandardItemModel
from qtpy.QtWidgets import QComboBox, QFrame, QWidget

from lesionlens.imaging.preparation import skull_stripping
from lesionlens.napari.preferences import Preferences, keep_preparation, read_preferences
from lesionlens.napari.widgets.parts import flat_button, label, row, stack

_METHODS = {
    skull_stripping.AUTO: (
        "automatic",
        "Built-in method, and an installed program if its mask is doubtful",
    ),
    skull_stripping.BUILT_IN: ("built-in", "Built-in method only"),
    "hd-bet": ("HD-BET", "Instead of the built-in method; takes minutes without a GPU"),
    "synthstrip": ("SynthStrip", "Instead of the built-in method"),
}


class PreparationBlock(QWidget):
    """Collapsible settings; the heading summarises them."""

    def __init__(self) -> None:
        super().__init__()
        self._fold = flat_button("")
        self._fold.setCheckable(True)
        self._fold.setArrowType(Qt.ArrowType.RightArrow)
        self._fold.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self._brain = QComboBox()
        self._brain.setAccessibleName("Brain extraction method")
        for name, (text, tooltip) in _METHODS.items():
            self._brain.addItem(text, name)
            self._brain.setItemData(self._brain.count() - 1, tooltip, Qt.ItemDataRole.ToolTipRole)
        self._brain.activated.connect(self._keep_preparation)
        self._body = QFrame()
        self._body.setProperty("role", "card")
        brain = row(label("brain extraction", "dim"), self._brain)
        stack(self._body, brain, margins=(8, 8, 8, 8))
        self._body.hide()
        self._fold.toggled.connect(self._unfold)
        stack(self, self._fold, self._body, spacing=4)
        self.show_preferences(read_preferences())

    def stops(self) -> tuple[QWidget, ...]:
        """Return the tab stops."""
        return self._fold, self._brain

    def show_preferences(self, preferences: Preferences) -> None:
        """Show the settings; programs that are not installed are disabled."""
        available = {skull_stripping.AUTO, skull_stripping.BUILT_IN, *skull_stripping.installed()}
        items = self._brain.model()
        for row_number, (name, (text, _)) in enumerate(_METHODS.items()):
            self._brain.setItemText(
                row_number, text if name in available else f"{text} (not installed)"
            )
            if isinstance(items, QStandardItemModel):
                items.item(row_number).setEnabled(name in available)
        self._brain.setCurrentIndex(self._brain.findData(preferences.brain_extraction))
        method = _METHODS[preferences.brain_extraction][0]
        self._fold.setText(f"Preparation: {method}")

    def _keep_preparation(self) -> None:
        keep_preparation(self._brain.currentData())
        self.show_preferences(read_preferences())

    def _unfold(self, expanded: bool) -> None:
        self._body.setVisible(expanded)
        self._fold.setArrowType(Qt.ArrowType.DownArrow if expanded else Qt.ArrowType.RightArrow)
