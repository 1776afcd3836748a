"""What a command says that cannot run."""

from qtpy.QtWidgets import QApplication

from lesionlens.napari.commands.study import OPENERS
from lesionlens.napari.palette import PALETTE_COMMANDS

STILL_THERE = {command.name for command in OPENERS} - {"compare", "open_second"} | {
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
