"""Buttons that run commands, with text, tooltip and availability from the command."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from qtpy.QtWidgets import QAbstractButton, QToolButton

from lesionlens.napari.commands.table import BY_NAME
from lesionlens.napari.model.screen.screen import Screen
from lesionlens.napari.widgets.parts import set_available

Button = TypeVar("Button", bound=QAbstractButton)


class CommandButtons:
    """The buttons of a block; `run` takes the name of a command."""

    def __init__(self, run: Callable[[str], object]) -> None:
        self._run = run
        self._buttons: list[tuple[QAbstractButton, str]] = []

    def add(self, button: Button, name: str, text: str = "", tip: str = "") -> Button:
        """Connect a button to a command.

        Parameters
        ----------
        button : QAbstractButton
            The button; keeps its text if `text` is empty.
        text : str
            Text, before the key.
        tip : str
            Tooltip, before the key; by default the command's.
        """
        command = BY_NAME[name]
        if text:
            button.setText(command.captioned(text))
        button.setToolTip(command.hint(tip) if tip else command.tip)
        if isinstance(button, QToolButton):
            button.setAccessibleName(button.toolTip())
        button.clicked.connect(lambda _=False: self._run(name))
        self._buttons.append((button, name))
        return button

    def show_screen(self, screen: Screen) -> None:
        """Enable available commands; the tooltips of others give the reason."""
        for button, name in self._buttons:
            set_available(button, BY_NAME[name].unavailable(screen))
