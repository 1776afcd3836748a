"""Preparation and server settings: collapsed, and stored as preferences."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Qt
from qtpy.QtGui import QStandardItemModel
from qtpy.QtWidgets import QComboBox, QFrame, QLineEdit, QWidget

from lesionlens.base.errors import LesionLensError
from lesionlens.imaging.preparation import skull_stripping
from lesionlens.napari.controllers.actions import Actions
from lesionlens.napari.model.acts.session import SERVER
from lesionlens.napari.preferences import (
    Preferences,
    keep_preparation,
    keep_server,
    read_preferences,
)
from lesionlens.napari.qt.jobs import problem_of
from lesionlens.napari.widgets.parts import flat_button, label, row, show_items, stack

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

    def __init__(self, acts: Actions) -> None:
        super().__init__()
        self._acts = acts
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
        self._make_server_choices()
        self._body = QFrame()
        self._body.setProperty("role", "card")
        brain = row(label("brain extraction", "dim"), self._brain)
        server = row(label("server", "dim"), self._server)
        stack(self._body, brain, server, self._model_row, margins=(8, 8, 8, 8))
        self._body.hide()
        self._fold.toggled.connect(self._unfold)
        stack(self, self._fold, self._body, spacing=4)
        self.show_preferences(read_preferences())

    def _make_server_choices(self) -> None:
        self._server = QLineEdit()
        self._server.setAccessibleName("Server that runs the network")
        self._server.setPlaceholderText("none: this machine")
        self._server.setToolTip(
            "https://HOST:PORT of `lesionlens serve`; only voxels of the brain are sent. Set its "
            "key in Preferences → LesionLens"
        )
        self._server.editingFinished.connect(self._serve)
        self._model = QComboBox()
        self._model.setAccessibleName("Model of the server")
        self._model.setToolTip("Model on the server")
        self._model.activated.connect(lambda _: self._choose_model())
        self._model_row = QWidget()
        self._model_row.setLayout(row(label("model", "dim"), self._model))
        self._saved_server = self._saved_model = ""
        self._names: tuple[str, ...] = ()

    def stops(self) -> tuple[QWidget, ...]:
        """Return the tab stops."""
        return self._fold, self._brain, self._server, self._model

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
        names = self._names if preferences.server == self._saved_server else ()
        self._saved_server, self._saved_model = preferences.server, preferences.server_model
        self._server.setText(self._saved_server)
        self._model_row.setVisible(bool(self._saved_server))
        self.show_models(names)
        server_text = (
            f", network on {self._saved_server.partition('://')[2]}" if self._saved_server else ""
        )
        server_text += f" ({self._saved_model})" if self._saved_server and self._saved_model else ""
        self._fold.setText(f"Preparation: {method}{server_text}")

    def show_models(self, names: Sequence[str]) -> None:
        """Offer the server's models, and the chosen one even if it is not among them."""
        self._names = tuple(names)
        first = f"its first ({names[0]})" if names else "its first"
        offered = filter(None, dict.fromkeys([*names, self._saved_model]))
        show_items(
            self._model, [(first, ""), *((name, name) for name in offered)], self._saved_model
        )

    def _choose_model(self) -> None:
        chosen = str(self._model.currentData())
        if chosen != self._saved_model:
            self._keep_server(self._saved_server, chosen)

    def _serve(self) -> None:
        if self._server.text().strip() != self._saved_server:
            self._keep_server(self._server.text().strip())

    def _keep_preparation(self) -> None:
        keep_preparation(self._brain.currentData())
        self.show_preferences(read_preferences())

    def _keep_server(self, server: str, model: str = "") -> None:
        """Store the server, empty for this machine, and its model, empty for its first."""
        try:
            keep_server(server, model)
        except LesionLensError as error:
            self._acts.session.refused(problem_of(error, SERVER))
        else:
            self._acts.session.clear_problem(SERVER)
        self.show_preferences(read_preferences())
        self._acts.query_models(self._show_models_of)

    def _show_models_of(self, server: str, names: Sequence[str]) -> None:
        if server == read_preferences().server:
            self.show_models(names)

    def _unfold(self, expanded: bool) -> None:
        self._body.setVisible(expanded)
        self._fold.setArrowType(Qt.ArrowType.DownArrow if expanded else Qt.ArrowType.RightArrow)
        if expanded and self._saved_server:
            self._acts.query_models(self._show_models_of)
