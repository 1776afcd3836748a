"""Agreement with a second result of the study."""

from __future__ import annotations

from collections.abc import Callable

from lesionlens.base.records.findings import Point
from lesionlens.napari.model.wording.second import ShownSecond
from lesionlens.napari.widgets.command_buttons import CommandButtons
from lesionlens.napari.widgets.parts import Section, flat_button, label, row
from lesionlens.napari.widgets.pick_rows import PickRows

MAX_LINES = 12
"""Maximum number of lines; the keys go through all disagreements."""


class SecondBlock(Section):
    """Shows the agreement of two results; hidden without a second one."""

    def __init__(self, go_to: Callable[[Point], object], run: Callable[[str], object]) -> None:
        super().__init__("SECOND RESULT")
        self._title, self._agreement = label("", wrap=True), label("", "dim", wrap=True)
        self.lines = PickRows(go_to)
        commands = CommandButtons(run)
        take = commands.add(flat_button(""), "take_second", "adopt this part")
        close = commands.add(flat_button("✕"), "close_second")
        self.add(self._title, row(take, None, close), self._agreement, self.lines)

    def show_second(self, shown: ShownSecond | None) -> None:
        """Show the agreement."""
        self.setVisible(shown is not None)
        if shown is not None:
            self._title.setText(shown.title)
            self._agreement.setText("\n".join(shown.agreement))
            self.lines.show_lines(shown.lines[:MAX_LINES])
