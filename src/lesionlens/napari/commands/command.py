"""Commands: everything that the reader can do, independent of key, button, menu or palette."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lesionlens.base.text import capitalized
from lesionlens.napari.model.screen.screen import Screen


def no_study(screen: Screen) -> str:
    """Return why there is no study to show; empty if one is open."""
    return "" if screen.study.sequences else screen.not_added


def no_result(screen: Screen) -> str:
    """Return why there are no candidates or maps to show; empty if there is a result."""
    return "" if screen.analysed or screen.preliminary else screen.not_added


@dataclass(frozen=True, slots=True)
class Command:
    """An act that a key, a button, a menu or napari's palette runs."""

    name: str
    """Unique name; in napari's palette prefixed by `lesionlens.`."""
    description: str
    """Description for the table of keys and for tooltips."""
    key: str = ""
    """Key in napari's notation, such as "Shift-N"; empty if there is none."""
    menu: str = ""
    """Text in menus, if it differs from `description`."""
    hold: bool = False
    """Whether it lasts while the key is held: `run` is called with True, then with False."""
    repeats: bool = False
    """Whether it repeats while the key is held."""
    unavailable: Callable[[Screen], str] = lambda _: ""
    """Returns why the command is unavailable on a screen; empty if it is available."""
    run: Callable[..., object] | None = None
    """Takes the `Actions` of a window; with `hold` also whether the key is down. None runs the act
    with the command's name."""

    @property
    def shown_key(self) -> str:
        """The key as shown to people, such as "Ctrl+Shift+N"."""
        key = self.key.replace("-", "+").replace("Control", "Ctrl")
        return "Enter" if key == "Return" else key

    def captioned(self, text: str) -> str:
        """Return a button's text with the key, such as "Edit ⇧E"."""
        return f"{text} {self.shown_key.replace('Shift+', '⇧')}".rstrip()

    def hint(self, text: str) -> str:
        """Return a tooltip with the key, such as "Undo (U)"."""
        return f"{text} ({self.shown_key})" if self.key else text

    @property
    def title(self) -> str:
        """Text in menus and in napari's palette."""
        text = self.menu or self.description.removeprefix("edit: ")
        return capitalized(text)

    @property
    def tip(self) -> str:
        """Tooltip: the description and the key."""
        text = self.description.removeprefix("edit: ")
        return self.hint(capitalized(text))


class Commands:
    """The commands of one window.

    `decline` takes the reason why a command is unavailable; empty when a command starts.
    """

    def __init__(
        self,
        by_name: Mapping[str, Command],
        acts: object,
        current_screen: Callable[[], Screen],
        decline: Callable[[str], object],
    ) -> None:
        self._by_name = by_name
        self._acts, self._current_screen, self._decline = acts, current_screen, decline

    def run(self, name: str, *held: bool) -> object:
        """Run a command, or report why it is unavailable; with `hold`, pass True, then False."""
        command = self._by_name[name]
        reason = command.unavailable(self._current_screen())
        if any(held) is bool(held):  # a command begins: the previous message is cleared
            self._decline(f"{reason}." if reason else "")
            if reason:
                return None
        if command.run is None:
            return getattr(self._acts, name)(*held)
        return command.run(self._acts, *held)
