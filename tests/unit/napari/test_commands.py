"""Commands are unique, the manual lists every key, and napari's palette offers each of them."""

from __future__ import annotations

from pathlib import Path

from npe2 import PluginManifest

import lesionlens.napari
from lesionlens.napari.commands.table import COMMANDS, KEYED

REPOSITORY = Path(__file__).resolve().parents[3]
MANIFEST = Path(lesionlens.napari.__file__).with_name("napari.yaml")


def test_names_and_keys_are_unique():
    assert len({command.name for command in COMMANDS}) == len(COMMANDS)
    assert len({command.key for command in KEYED}) == len(KEYED) > 50


def test_the_manual_lists_every_key():
    manual = (REPOSITORY / "docs" / "reference" / "window.md").read_text(encoding="utf-8")
    for command in KEYED:
        assert f"| {command.shown_key} | {command.words} |" in manual


def test_the_palette_offers_every_command_that_is_not_held():
    offered = {c.id: c for c in PluginManifest.from_file(MANIFEST).contributions.commands}
    for command in COMMANDS:
        entry = offered.get(f"lesionlens.{command.name}")
        assert (entry is None) is command.hold, command.name
        if entry is not None and "palette" in entry.python_name:
            assert entry.title == command.title
            assert entry.python_name == f"lesionlens.napari.palette:{command.name}"
