"""What a command says that cannot run, and that each has what it runs."""

import ast
from functools import reduce
from pathlib import Path

from qtpy.QtWidgets import QApplication
from tests.helpers.file_search import files_below

from lesionlens.napari.commands import table
from lesionlens.napari.commands.study import OPENERS
from lesionlens.napari.commands.table import COMMANDS
from lesionlens.napari.palette import PALETTE_COMMANDS

STILL_THERE = {command.name for command in OPENERS} - {"compare"} | {
    "show_keys",
    "brush_ball",
}
"""Commands that open a study, a dialog, or choose a tool without one."""


def test_with_nothing_open_every_command_says_why_it_cannot_run(panel):
    for command in PALETTE_COMMANDS:
        if command.name not in STILL_THERE:
            panel.session.notify("")
            panel.commands.run(command.name)
            QApplication.processEvents()
            assert panel.session.state.message, command.name


def test_in_a_study_without_a_result_what_needs_one_says_so(loaded):
    for name in ("next_candidate", "toggle_overlay", "next_evidence", "compare", "type_reason"):
        loaded.commands.run(name)
        assert loaded.session.state.message == "Analyse the study first.", name
    before = loaded.session.state.choices.views.layout
    loaded.commands.run("layout_prior")
    assert "No earlier examination is open" in loaded.session.state.message
    assert loaded.session.state.choices.views.layout is before


def _names(node):
    """The attributes after `acts` in an expression such as `acts.session.undo`, in order."""
    names = []
    while isinstance(node, ast.Attribute):
        names.insert(0, node.attr)
        node = node.value
    return names if isinstance(node, ast.Name) and node.id == "acts" else []


def test_every_act_that_a_command_names_exists_in_a_window(panel):
    """The acts of commands are functions of an untyped object, which mypy cannot check."""
    files = files_below(Path(table.__file__).parent, "*.py")
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in files]
    named = [names for tree in trees for node in ast.walk(tree) if (names := _names(node))]
    named += [[command.name] for command in COMMANDS if command.run is None]
    assert len(named) > len(COMMANDS)
    for names in named:
        reduce(getattr, names, panel.actions_)
