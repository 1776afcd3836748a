"""Commands are unique, the manual lists every key, and napari's palette offers each of them."""

from __future__ import annotations

import ast
from pathlib import Path

from npe2 import PluginManifest
from tests.helpers.file_search import files_below

import lesionlens.napari
from lesionlens.napari.commands.command import Command, Commands
from lesionlens.napari.commands.table import COMMANDS, KEY_COMMANDS
from lesionlens.napari.model.acts.session import ReviewSession
from lesionlens.napari.model.screen.screen import Screen

REPOSITORY = Path(__file__).resolve().parents[3]
NAPARI = Path(lesionlens.napari.__file__).parent
MANIFEST = NAPARI.parent / "napari.yaml"


def test_names_and_keys_are_unique():
    assert len({command.name for command in COMMANDS}) == len(COMMANDS)
    assert len({command.key for command in KEY_COMMANDS}) == len(KEY_COMMANDS) > 50


def test_every_command_has_an_act():
    rooms = (NAPARI / "controllers", NAPARI / "model" / "acts")
    files = [path for room in rooms for path in files_below(room, "*.py")]
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in files]
    there = {n.name for tree in trees for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
    assert {command.name for command in COMMANDS if command.run is None} <= there


def test_the_manual_lists_every_key_in_the_order_of_the_window():
    manual = (REPOSITORY / "docs" / "reference" / "window.md").read_text(encoding="utf-8")
    rows = [f"| {command.shown_key} | {command.description} |" for command in KEY_COMMANDS]
    assert "\n".join(rows) in manual


def test_the_palette_offers_every_command_that_is_not_held():
    offered = {c.id: c for c in PluginManifest.from_file(MANIFEST).contributions.commands}
    for command in COMMANDS:
        entry = offered.get(f"lesionlens.{command.name}")
        assert (entry is None) is command.hold, command.name
        if entry is not None and "palette" in entry.python_name:
            assert entry.title == command.title
            assert entry.python_name == f"lesionlens.napari.palette:{command.name}"


def test_the_answer_to_an_act_goes_when_the_next_one_begins():
    """It stood there, and was read as an answer to what was done since."""
    session, ran = ReviewSession(), []
    table = (
        Command("one", "one", run=lambda acts: acts.append("one")),
        Command("held", "held", hold=True, run=lambda acts, down: acts.append(down)),
        Command("never", "never", unavailable=lambda _: "There is nothing", run=ran.append),
    )
    by_name = {command.name: command for command in table}
    commands = Commands(by_name, ran, Screen, session.notify)
    session.notify("Saved.")
    commands.run("one")
    assert (ran, session.state.message) == (["one"], "")
    commands.run("never")
    assert session.state.message == "There is nothing."
    commands.run("held", True)
    assert session.state.message == ""
    session.notify("While it is down.")
    commands.run("held", False)
    assert session.state.message == "While it is down."
    session.choose_opacity(0.3)
    assert session.state.message == ""
