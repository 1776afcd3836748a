"""All commands of the window, in the order of the table of keys.

A new group of commands is a module with `COMMANDS` and a line here, which gives it keys, rows in
the table of keys and entries in napari's palette. `tests/unit/napari` checks the rest.
"""

from __future__ import annotations

from lesionlens.napari.commands import editing, review, study, viewing

COMMANDS = (*review.COMMANDS, *editing.COMMANDS, *viewing.COMMANDS, *study.COMMANDS, *study.OPENERS)
"""Every command; names and keys are unique."""

BY_NAME = {command.name: command for command in COMMANDS}
KEY_COMMANDS = tuple(command for command in COMMANDS if command.key)
