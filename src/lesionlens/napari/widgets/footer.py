"""Footer of the panel: progress of the review, signature, export."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtWidgets import QPushButton, QWidget

from lesionlens.napari.commands.table import BY_NAME
from lesionlens.napari.model.screen.screen import Screen
from lesionlens.napari.widgets.command_buttons import CommandButtons
from lesionlens.napari.widgets.parts import (
    flat_button,
    label,
    push_button,
    row,
    set_role,
    show_text,
    stack,
)


class Footer(QWidget):
    """Shows the progress of the review, and runs commands; hidden before an analysis."""

    def __init__(self, run: Callable[[str], object]) -> None:
        super().__init__()
        self._reviewed = label("", "dim", wrap=True)
        self._signed = False
        self._commands = commands = CommandButtons(run)
        self._export = commands.add(QPushButton("Export…"), "export")
        self._sign = push_button("", lambda: run("withdraw" if self._signed else "sign"))
        keys = commands.add(flat_button(BY_NAME["show_keys"].hint("Keys")), "show_keys")
        buttons = row(keys, None, self._sign, self._export)
        stack(self, self._reviewed, buttons, margins=(12, 4, 12, 6), spacing=4)

    def show_screen(self, screen: Screen) -> None:
        """Show a screen."""
        signature = screen.signature
        self._signed = signature.signed
        show_text(self._reviewed, signature.progress)
        text = signature.button_text
        command = BY_NAME["withdraw" if signature.signed else "sign"]
        self._sign.setText(command.captioned(text))
        self._sign.setToolTip(command.tip)
        self._commands.show_screen(screen)
        set_role(self._export, "primary" if signature.all_reviewed else "")
        self.setVisible(screen.analysed)
