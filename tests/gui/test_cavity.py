"""The resection cavity is a part like the others: outlined, painted, undone, exported."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from napari.utils.colormaps.standardize_color import transform_color
from qtpy.QtWidgets import QApplication, QLabel
from tests.gui.conftest import RIGHT
from tests.gui.test_prompting import drawn, point
from tests.gui.window import reads, settled
from tests.helpers import stored_drafts

from lesionlens.base.labels import Label
from lesionlens.base.records.review import CAVITY
from lesionlens.napari.model.choices.choices import Overlay
from lesionlens.napari.model.overlays.maps import cavity_of
from lesionlens.results.export.exporter import save
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
    draft = stored_drafts.read(
        shown(painted), painted.actions_.read_controller.current.decision_owner()
    )
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
    stored = stored_drafts.read(
        shown(painted), painted.actions_.read_controller.current.decision_owner()
    )
    painted.commands.run("edit_outline")
    settled(painted, qtbot)
    painted.session.offer(stored)
    assert "resection cavity" in painted.model.screen.draft_text
    painted.commands.run("edit_outline")
    layer = painted.viewer.layers.selection.active
    assert layer.name == "Resection cavity"
    assert not outlined(painted)  # the layer shows it
    layer.data_setitem(np.nonzero(layer.data), 0)
    painted.commands.run("edit_outline")
    settled(painted, qtbot)
    assert shown(painted).volumes.cavity_ml == 0


def test_prompts_and_tools_of_a_candidate_leave_it_whole_and_a_brush_paints_over_it(painted, qtbot):
    """An outline that was pointed at took it in, and it shrank without a word."""
    painted.commands.run("edit_outline")
    settled(painted, qtbot)
    at = painted.session.state.overlays.grid.nearest_voxel(RIGHT)
    point(painted, qtbot, RIGHT)
    assert "in the resection cavity" in reads(painted)
    assert painted.session.state.editing is None
    point(painted, qtbot, (RIGHT[0], RIGHT[1] + 16.0, RIGHT[2]))
    editor, before = painted.actions_.editor, drawn(painted) > 0
    assert before.any()
    cavity = cavity_of(shown(painted))
    assert cavity[tuple(at)]
    assert not (before & cavity).any()
    around = np.zeros(cavity.shape, np.uint8)
    around[tuple(slice(i - 5, i + 6) for i in at)] = 2
    editor.change(np.where(editor.allowed, around, 0).astype(np.uint8))
    painted.commands.run("fill_holes")
    assert not (drawn(painted)[cavity] > 0).any()
    layer = painted.viewer.layers.selection.active
    layer.paint(tuple(at), int(Label.OEDEMA))
    assert drawn(painted)[tuple(at)] == Label.OEDEMA
