"""Acts in any order, as of a hurried reader: no defect, and no act lands on another study."""

from __future__ import annotations

import random

import pytest
from qtpy.QtCore import QEventLoop, QTimer
from qtpy.QtWidgets import QApplication, QDialog, QMenu
from tests.gui.conftest import LEFT, RIGHT
from tests.gui.test_one_study import marks
from tests.gui.window import wait

from lesionlens.napari.commands.table import COMMANDS
from lesionlens.napari.loading import KEY

DECISIONS = ("accept", "reject", "defer", "undo", "redo", "mark_here", "edit_outline", "merge")
ELSEWHERE = ("analyse", "archive", "open_sample", "worklist")
"""They need a network, a server or another window."""
NAMES = [one.name for one in COMMANDS if not one.hold and one.name not in ELSEWHERE]
"""Every other command of the window, openers with their dialogs too."""


@pytest.fixture
def closing(qapp):
    """Every dialog and menu is closed as soon as it is shown."""

    def close():
        shown = QApplication.activeModalWidget() or QApplication.activePopupWidget()
        if isinstance(shown, QDialog):
            shown.reject()
        elif isinstance(shown, QMenu):
            shown.close()

    timer = QTimer()
    timer.setInterval(20)
    timer.timeout.connect(close)
    timer.start()
    yield
    timer.stop()


def shown_row(listed):
    """The name of the row whose study is open, or None."""
    current, study = listed.controller._current, listed.controller.actions.session.state.study
    return current[1].entry.name if current is not None and current[0] is study else None


def settle(panel, listed, seed):
    """Let the window go on for a moment, as long as a reader hesitates."""
    loop = QEventLoop()
    QTimer.singleShot(seed.choice((0, 0, 5, 30, 120)), loop.quit)
    loop.exec()


def open_row(panel, listed, seed):
    return listed.controller.open_row(seed.choice(listed.model.rows))


def stop(panel, listed, seed):
    panel.jobs.stop()


def go_somewhere(panel, listed, seed):
    panel.session.go_to_candidate(seed.choice((1, 2)))
    panel.viewer.cursor.position = seed.choice((LEFT, RIGHT))


def change_layers(panel, listed, seed):
    """What napari's own list and buttons do to layers, ours too."""
    layers = panel.viewer.layers
    if layers:
        layer = seed.choice(list(layers))
        layer.visible = not layer.visible
        layers.selection = {layer}
        layers.move(layers.index(layer), seed.randrange(len(layers)))
        if seed.random() < 0.2:
            layers.remove(layer)


def command(panel, listed, seed):
    panel.commands.run(seed.choice(NAMES))


def decide(panel, listed, seed):
    panel.commands.run(seed.choice(DECISIONS))


ACTS = (*[command] * 12, *[decide] * 6, *[open_row] * 3, *[go_somewhere] * 3, stop, change_layers)


@pytest.mark.parametrize(
    ("number", "n_acts"),
    [(0, 60), *(pytest.param(number, 150, marks=pytest.mark.slow) for number in range(1, 5))],
)
def test_no_order_of_acts_is_a_defect_or_reaches_another_study(
    number, n_acts, panel, listed, closing, qtbot
):
    seed, done = random.Random(number), []
    assert listed.controller.open(listed.list_folder)
    logged = {name: marks(listed, name) for name in "abc"}
    for _ in range(n_acts):
        act, row = seed.choice(ACTS), shown_row(listed)
        act(panel, listed, seed)
        done.append((act.__name__, row))
        now = {name: marks(listed, name) for name in "abc"}
        grown = {name for name in now if now[name] != logged[name]}
        assert grown <= {row}, done
        logged = now
        settle(panel, listed, seed)
        problem = panel.session.state.problem
        assert problem is None or "defect" not in problem.title, (problem, done)
    panel.jobs.stop()
    wait(qtbot, panel)
    study = panel.session.state.study
    for layer in panel.viewer.layers:
        ours = layer.metadata.get(KEY, {}).get("study", study)
        assert ours is study or "earlier study" in layer.name, (layer.name, done)
