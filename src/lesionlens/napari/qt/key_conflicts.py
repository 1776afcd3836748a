"""Keys of LesionLens that are also bound by napari or other plugins."""

from __future__ import annotations

from typing import Any

from napari.layers import Image, Labels
from napari.utils.key_bindings import coerce_keybinding
from napari.viewer import Viewer

from lesionlens.napari.commands.command import Command
from lesionlens.napari.commands.editing import CANCEL, FINISH
from lesionlens.napari.commands.table import KEY_COMMANDS

_NAPARI_NAMES = {"PgDown": "PageDown", "PgUp": "PageUp", "Esc": "Escape"}


def napari_key(command: Command) -> str:
    """Return a command's key in the notation of napari's tables, such as "Ctrl+B"."""
    *modifiers, key = command.shown_key.split("+")
    return str(coerce_keybinding("+".join((*modifiers, _NAPARI_NAMES.get(key, key)))))


def keymap_of(owner_class: type) -> dict[Any, Any]:
    """Return napari's bindings of a layer or viewer class, including inherited ones."""
    bindings: dict[Any, Any] = {}
    for base in reversed(owner_class.__mro__):
        bindings |= base.__dict__.get("class_keymap", {})
    return bindings


def clashes(viewer: Any) -> tuple[str, ...]:
    """Report keys that another plugin, or napari as configured, also uses in this window.

    While the panel is open they run LesionLens commands; `FINISH` does so only during an edit, and
    `CANCEL` only while a prompt is drawn or a click is awaited.

    Returns
    -------
    tuple of str
        One sentence per key; empty for napari's default settings.
    """
    bound: dict[str, Any] = {}
    for keymap in (*map(keymap_of, (Viewer, Image, Labels)), viewer.keymap):
        bound |= {str(key): callback for key, callback in keymap.items()}
    own_keys = (
        (napari_key(command), command.shown_key, command.description)
        for command in KEY_COMMANDS
        if command.name not in (FINISH, CANCEL)
    )
    return tuple(
        f"{shown_key} is also used by {_owner(bound[key])}; here it means: {description}."
        for key, shown_key, description in own_keys
        if key in bound
    )


def _owner(callback: Any) -> str:
    module = getattr(callback, "__module__", None) or type(callback).__module__
    return str(module).partition(".")[0]
