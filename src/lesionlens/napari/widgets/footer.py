"""What ends a review, always in sight below the panel: how far it is, signature, export."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QPushButton, QToolButton, QVBoxLayout, QWidget

from lesionlens.napari.model.screen.screen import Screen
from lesionlens.napari.widgets.parts import label, row, set_role


class Footer(QWidget):
    """Shows how far the review is; emits what the reader does. Hidden before an analysis."""

    commanded = Signal(str)
    """The name of a command."""

    def __init__(self) -> None:
        super().__init__()
        self._reviewed = label("", "dim", wrap=True)
        self._signed = False
        self._sign, self._export, keys = QPushButton(), QPushButton("Export…"), QToolButton()
        self._sign.setToolTip("Sign the study under your name, when every candidate is decided")
        self._sign.clicked.connect(lambda _=False: self._on_sign())
        self._export.clicked.connect(lambda _=False: self.commanded.emit("export"))
        keys.setText("Keys (K)")
        keys.setProperty("role", "flat")
        keys.clicked.connect(lambda _=False: self.commanded.emit("show_keys"))
        self._without = QToolButton()
        self._without.setText("without it?")
        self._without.setToolTip("Mask this candidate and run the network again")
        self._without.setProperty("role", "flat")
        self._without.clicked.connect(lambda _=False: self.commanded.emit("ask_without"))
        column = QVBoxLayout(self)
        column.setContentsMargins(12, 4, 12, 6)
        column.setSpacing(4)
        column.addWidget(self._reviewed)
        column.addLayout(row(keys, self._without, None, self._sign, self._export))

    def show_screen(self, screen: Screen) -> None:
        """Show a screen."""
        self._signed = screen.signed
        self._reviewed.setText(screen.reviewed)
        self._reviewed.setVisible(bool(screen.reviewed))
        self._sign.setText(screen.sign_words)
        self._without.setVisible(screen.can_ask_without)
        self._export.setEnabled(screen.can_export)
        set_role(self._export, "primary" if screen.all_reviewed else "")
        self.setVisible(screen.analysed)

    def _on_sign(self) -> None:
        self.commanded.emit("withdraw" if self._signed else "sign")
