"""Buttons that run commands: words with the key, a tip, enabled or not, all by the command."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from qtpy.QtWidgets import QAbstractButton, QToolButton

from lesionlens.napari.commands.table import BY_NAME
from lesionlens.napari.model.screen.screen import Screen
from lesionlens.napari.widgets.parts import offer

Button = TypeVar("Button", bound=QAbstractButton)


class CommandButtons:
    """The buttons of a block.

    Parameters
    ----------
    run : callable
        Takes the name of a command.
    """

    def __init__(self, run: Callable[[str], object]) -> None:
        self._run = run
        self._made: list[tuple[QAbstractButton, str]] = []

    def add(self, button: Button, name: str, words: str = "", tip: str = "") -> Button:
        """Let a button run a command.

        Parameters
        ----------
        button : QAbstractButton
            Keeps its text if no words are given.
        name : str
            The command's.
        words : str
            Its text, before the key.
        tip : str
            Its tip, before the key; the command's own words if empty.
        """
        command = BY_NAME[name]
        if words:
            button.setText(command.captioned(words))
        button.setToolTip(command.hint(tip) if tip else command.tip)
        if isinstance(button, QToolButton):
            button.setAccessibleName(button.toolTip())
        button.clicked.connect(lambda _=False: self._run(name))
        self._made.append((button, name))
        return button

    def show_screen(self, screen: Screen) -> None:
        """Enable what can be run; a tip says why another cannot."""
        for button, name in self._made:
            offer(button, BY_NAME[name].unavailable(screen))
