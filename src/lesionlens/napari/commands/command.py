"""A command: one thing that the reader can do, however they ask for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lesionlens.napari.model.screen.screen import Screen


def _always(_: Screen) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Command:
    """What a key, a button, a menu and napari's palette run alike."""

    name: str
    """Unique; in napari's palette the command is `lesionlens.` and this name."""
    words: str
    """What it does, for the table of keys; a button's tip begins with it."""
    run: Callable[..., object]
    """Takes the `Actions` of a window; one that is held also whether the key is down."""
    key: str = ""
    """As napari writes it, such as "Shift-N"; empty if it has none."""
    menu: str = ""
    """In the panel's menu, where the words of the table of keys are too long for it."""
    hold: bool = False
    """Whether letting the key go ends it: `run` is called with True, then with False."""
    repeats: bool = False
    """Whether it continues while the key stays down."""
    unavailable: Callable[[Screen], str] = _always
    """Why it cannot be run with what is shown now, in words; empty if it can."""

    @property
    def shown_key(self) -> str:
        """The key as people write it."""
        return self.key.replace("-", "+")

    def captioned(self, words: str) -> str:
        """Write words on a button with the key, such as "Edit ⇧E"."""
        return f"{words} {self.shown_key.replace('Shift+', '⇧')}".rstrip()

    def hint(self, words: str) -> str:
        """Write a button's tip with the key in full, such as "Undo (U)"."""
        return f"{words} ({self.shown_key.replace('Control', 'Ctrl')})" if self.key else words

    @property
    def title(self) -> str:
        """In menus and in napari's palette."""
        words = self.menu or self.words.removeprefix("edit: ")
        return f"{words[:1].upper()}{words[1:]}"

    @property
    def tip(self) -> str:
        """Beside a button: what it does, and its key."""
        words = self.words.removeprefix("edit: ")
        return self.hint(f"{words[:1].upper()}{words[1:]}")


class Commands:
    """The commands of one window.

    Parameters
    ----------
    table : iterable of Command
        All of them.
    acts : object
        The `Actions` of the window.
    shown : callable
        Returns what is shown now.
    notify : callable
        Takes the reason why a command cannot be run; nothing, when one begins.
    """

    def __init__(
        self,
        table: Iterable[Command],
        acts: object,
        shown: Callable[[], Screen],
        notify: Callable[[str], object],
    ) -> None:
        self._by_name = {command.name: command for command in table}
        self._acts, self._shown, self._notify = acts, shown, notify

    def __getitem__(self, name: str) -> Command:
        return self._by_name[name]

    def run(self, name: str, *held: bool) -> object:
        """Run a command, or say why it cannot be run; one that is held takes True, then False."""
        command = self._by_name[name]
        reason = command.unavailable(self._shown())
        if any(held) is bool(held):  # it begins: what was answered to the one before goes
            self._notify(f"{reason}." if reason else "")
            if reason:
                return None
        return command.run(self._acts, *held)
