"""The resection cavity is a part like the others: outlined, painted, undone, exported."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from napari.utils.colormaps.standardize_color import transform_color
from qtpy.QtWidgets import QApplication, QLabel
from tests.gui.conftest import RIGHT
from tests.gui.window import settled

from lesionlens.base.labels import Label
from lesionlens.base.records.review import CAVITY
from lesionlens.napari.model.choices.choices import Overlay
from lesionlens.results.export.exporter import save
from lesionlens.results.review import drafts
from lesionlens.results.review.reopen import read_result, read_reviewed, reopen


def shown(panel):
    return panel.session.state.analysis


def outlined(panel):
    """Whether the single view has a line in the cavity's colour at the pointer's slice."""
    QApplication.processEvents()
    strokes = panel.views.lines.strokes
    if strokes is None:
        return False
    colour = transform_color(Label.CAVITY.colour)[0]
    return bool((np.abs(strokes.colours - colour).max(axis=1) < 1e-3).any())


@pytest.fixture
def painted(missed, qtbot):
    """The panel while a cavity is painted on the right, with one stroke."""
    missed.session.choose_overlay(Overlay.CONTOUR)
    missed.commands.run("draw_cavity")
    layer = missed.viewer.layers.selection.active
    missed.actions_.brush_ball()
    layer.brush_size = 7
    layer.selected_label = int(Label.OEDEMA)
    assert layer.selected_label == Label.CAVITY  # nothing else is painted here
    at = tuple(np.rint(layer.world_to_data(RIGHT)).astype(int))
    with layer.block_history():  # as a stroke of the pointer
        layer.paint(at, layer.selected_label)
    return missed


def test_it_is_painted_shown_undone_and_read_back_voxel_for_voxel(painted, qtbot, tmp_path):
    before = [replace(c) for c in shown(painted).findings.candidates]
    assert shown(painted).volumes.cavity is None
    draft = drafts.read_draft(shown(painted), painted.actions_.read_controller.decision_owner())
    assert draft.tracking_uid == CAVITY
    assert set(np.unique(draft.drawn).tolist()) == {0, int(Label.CAVITY)}
    painted.commands.run("edit_outline")
    settled(painted, qtbot)
    assert shown(painted).findings.candidates == tuple(before)
    assert shown(painted).volumes.cavity_ml > 0
    painted.actions_.go_to_point(RIGHT)
    assert outlined(painted)
    words = [one.text() for one in painted.candidates.findChildren(QLabel)]
    assert any("resection cavity" in text and "not counted as tumour" in text for text in words)

    painted.commands.run("undo")
    settled(painted, qtbot)
    assert shown(painted).volumes.cavity is None
    assert not outlined(painted)
    painted.commands.run("redo")
    settled(painted, qtbot)

    analysis = replace(shown(painted), review=painted.session.state.review)
    save(analysis, tmp_path / "out")
    cavity = analysis.volumes.cavity.data
    for again in (
        reopen(read_result(tmp_path / "out"), analysis.study, analysis.prepared),
        read_reviewed(tmp_path / "out"),
    ):
        np.testing.assert_array_equal(again.volumes.cavity.data, cavity)
        np.testing.assert_array_equal(again.volumes.labels.data, analysis.volumes.labels.data)


def test_an_interrupted_one_goes_on_and_all_of_it_can_be_erased(painted, qtbot):
    stored = drafts.read_draft(shown(painted), painted.actions_.read_controller.decision_owner())
    painted.commands.run("edit_outline")
    settled(painted, qtbot)
    painted.session.offer(stored)
    assert "resection cavity" in painted.model.screen.draft_words
    painted.commands.run("edit_outline")
    layer = painted.viewer.layers.selection.active
    assert layer.name == "Resection cavity"
    assert not outlined(painted)  # the layer shows it
    layer.data_setitem(np.nonzero(layer.data), 0)
    painted.commands.run("edit_outline")
    settled(painted, qtbot)
    assert shown(painted).volumes.cavity_ml == 0
