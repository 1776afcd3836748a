"""What is chosen in a dialog, or not: folders, files of every kind, lists and tables."""

from __future__ import annotations

import pytest
from qtpy.QtWidgets import QFileDialog
from tests.gui.window import reads, wait
from tests.phantoms.analysis import write_study

PANEL = (
    "open_folder", "open_file", "reopen_result", "compare", "reopen_mask", "export"
)  # fmt: skip
LIST, FOLDER, TABLE = "Open a list", "New list of a folder", "New list of a CSV"


def ask(listed, name):
    """Choose an entry of the list's menu by the beginning of its name."""
    entries = listed._open.menu().actions()
    next(entry for entry in entries if entry.text().startswith(name)).trigger()


@pytest.fixture
def choose(monkeypatch):
    """`choose(path, …)` answers the next dialogs; nothing chosen afterwards cancels them."""
    chosen = []

    def answer(*_):
        return chosen.pop(0) if chosen else ""

    monkeypatch.setattr(QFileDialog, "getExistingDirectory", answer)
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (answer(), ""))
    return lambda *paths: chosen.extend(map(str, paths))


def test_a_cancelled_dialog_changes_nothing(reviewed, listed, choose):
    before, screen = reviewed.session.state, listed.session.state
    for name in PANEL:
        reviewed.commands.run(name)
    for name in (LIST, FOLDER, TABLE, "Write the tables"):
        ask(listed, name)
    assert reviewed.session.state is before
    assert listed.session.state is screen
    assert not (reviewed.jobs.running)
    assert not (listed.controller.jobs.running)


@pytest.mark.parametrize("kind", ["t1c", "slice", "text"])
def test_a_file_of_every_kind_is_opened_or_named(panel, make_study, choose, tmp_path, qtbot, kind):
    if kind == "text":
        file = tmp_path / "notes.txt"
        file.write_text("no scan")
    else:
        study = make_study(dicom=kind == "slice")
        file = next(path for path in sorted(study.rglob("*")) if path.is_file())
    choose(file)
    panel.commands.run("open_file")
    wait(qtbot, panel)
    state = panel.session.state
    if kind == "text":
        assert "notes.txt" in state.problem.found
    else:
        assert state.problem is None
        assert state.study is not None


def test_a_result_s_own_dialogs_take_its_folder_and_refuse_another(
    reviewed, result, choose, tmp_path, qtbot
):
    saved, empty = tmp_path / "saved", tmp_path / "empty"
    empty.mkdir()
    choose(saved)
    reviewed.commands.run("export")
    wait(qtbot, reviewed)
    assert "Saved in saved." in reviewed.session.state.message
    for name, path in (
        ("reopen_result", empty),
        ("compare", empty),
        ("reopen_mask", saved / "run.json"),
    ):
        choose(path)
        reviewed.commands.run(name)
        wait(qtbot, reviewed)
        problem = reviewed.session.state.problem
        assert problem is not None, name
        assert problem.title != "A defect in LesionLens", problem
        assert reviewed.session.state.analysis is not None
        reviewed.session.dismiss()
    choose(saved)
    reviewed.commands.run("reopen_result")
    wait(qtbot, reviewed)
    assert reviewed.session.state.problem is None


def test_a_list_is_made_of_a_folder_and_of_a_table(listed, head, choose, tmp_path, qtbot):
    studies, target = tmp_path / "studies", tmp_path / "list of studies"
    for name in ("p1", "p2"):
        write_study(head, studies / name)
    target.mkdir()
    choose(studies, target)
    ask(listed, FOLDER)
    wait(qtbot, listed.controller)
    assert [row.entry.name for row in listed.model.rows] == ["p1", "p2"]
    assert "2 new studies." in reads(listed)
    table = tmp_path / "studies.csv"
    table.write_text("study\n" + "\n".join(str(studies / name) for name in ("p1", "p2")) + "\n")
    choose(table)  # and no folder for the list
    ask(listed, TABLE)
    assert not listed.controller.jobs.running
    other = tmp_path / "other"
    other.mkdir()
    choose(table, other)
    ask(listed, TABLE)
    wait(qtbot, listed.controller)
    assert listed.session.state.problem is None, listed.session.state.problem
    assert len(listed.model.rows) == 2
    choose(target)
    ask(listed, LIST)
    assert listed.session.state.folder == target
