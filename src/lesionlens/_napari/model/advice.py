"""Advice for a window: what the command line calls an option, the window calls by its own names."""

from __future__ import annotations

import re
from dataclasses import replace

from lesionlens._napari.model.state import Problem

_HERE = (
    (r"Name one with --study(?: UID)?", "Choose one in the list"),
    (r"name one study with --study UID", "choose one study in the list"),
    (r", or use `lesionlens batch` for all", ""),
    (r"name it with --(\w+) FILE or in the sequence list of the panel", "name it under “change…”"),
    (r"the flag of another sequence takes another file", "another sequence takes another file"),
    (r"Leave out the flag that does not fit", "Choose other series under “change…”"),
    (r"Use --device (\w+) or --device (\w+)", r"Choose \1 or \2 in Preferences → LesionLens"),
    (r"[Uu]se --device (\w+)", r"choose \1 in Preferences → LesionLens"),
    (r"choose another folder with --out", "choose another folder"),
    (r"analyse with the command line on a larger machine", "analyse on a larger machine"),
    (r", or leave --weights out to use the default weights", ""),
    (r"; `lesionlens doctor` lists what is there", ""),
    (r"Run `lesionlens doctor` to see what this machine has", "Try a smaller study"),
)
_FLAG = re.compile(r"--[a-z]|`lesionlens ")


def in_the_windows_words(problem: Problem) -> Problem:
    """Return a failure whose advice names nothing that a window does not have."""
    said = {name: _here(getattr(problem, name)) for name in ("found", "expected", "next_step")}
    return replace(problem, **said)


def _here(text: str) -> str:
    """Say a command line's option as what the window calls it.

    Examples
    --------
    >>> _here("Close other programs, or use --device cpu")
    'Close other programs, or choose cpu in Preferences → LesionLens'
    >>> _here("Free some space or choose another folder with --out; nothing was changed")
    'Free some space or choose another folder; nothing was changed'
    """
    for pattern, words in _HERE:
        text = re.sub(pattern, words, text)
    return text


def names_a_flag(text: str) -> bool:
    """Whether a text names an option or a command of the command line."""
    return _FLAG.search(text) is not None
