"""All commands of the window, in the order of the table of keys.

A new group of commands is a module with `COMMANDS` and a line here: its keys, its rows in the table
of keys and its entries in napari's palette follow. `tests/unit/napari` says what else it needs.
"""

from __future__ import annotations

from lesionlens.napari.commands import editing, review, study, viewing

COMMANDS = (
    *review.COMMANDS,
    *editing.COMMANDS,
    *viewing.COMMANDS,
    *study.COMMANDS,
    *study.OPENERS,
)
"""Every command; their names and keys are unique."""

BY_NAME = {command.name: command for command in COMMANDS}
"""Every command by its name."""
KEYED = tuple(command for command in COMMANDS if command.key)
"""Those that a key runs."""
