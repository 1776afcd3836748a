"""Preliminary candidates: there while the analysis runs, marked as such, replaced by the final."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from tests.gui.conftest import LEFT
from tests.gui.window import PATIENCE_MS, control, reads, wait

from lesionlens.napari.model.choices.choices import Overlay
from lesionlens.napari.model.choices.views import Layout


@pytest.fixture
def looked(loaded, result, first, qtbot, monkeypatch):
    """A panel whose analysis has told its first pass and waits; and what lets it go on."""
    go_on = threading.Event()

    def lens(study, *, context, first):
        first(looks)
        while not go_on.wait(0.02):
            context.check("network")
        return result

    looks = first
    monkeypatch.setattr(loaded.actions_.loaded_lens, "load", lambda _: lens)
    assert loaded.actions_.analyse()
    qtbot.waitUntil(lambda: loaded.session.state.preliminary is not None, timeout=PATIENCE_MS)
    yield loaded, go_on
    go_on.set()
    wait(qtbot, loaded)


def test_preliminary_candidates_are_listed_gone_to_and_not_decided(looked, qtbot):
    panel, go_on = looked
    (row,) = panel.candidates.model.rows
    assert row.location == "preliminary"
    assert panel.candidates.isVisibleTo(panel)
    assert "preliminary" in reads(panel.candidates)
    assert panel.views.lines.strokes is None  # the reader reads unaided first
    panel.commands.run("next_candidate")
    np.testing.assert_allclose(panel.viewer.dims.point, LEFT, atol=2.1)
    strokes = panel.views.lines.strokes
    box = 4
    assert 0 < len(strokes.pieces) < len(strokes.points) - 2 - box  # dashed
    assert not control(panel, "Accept A").isEnabled()
    panel.commands.run("accept")
    assert not panel.session.state.review.events
    panel.actions_.show_layout(Layout.FOUR)
    view = panel.views.linked.tiles[0]
    drawing = panel.views.linked.drawing(view.tile)
    assert drawing.preliminary
    assert drawing.outlines
    assert drawing.box
    assert "preliminary outlines" in drawing.lines[0]
    go_on.set()
    qtbot.waitUntil(lambda: panel.session.state.analysis is not None, timeout=PATIENCE_MS)
    assert len(panel.candidates.model.rows) == 2
    assert panel.session.state.preliminary is None
    assert panel.session.state.choices.candidate is None
    assert not panel.views.linked.drawing(view.tile).preliminary


def add_left(panel):
    """Ctrl and a click on the lesion at the left."""
    return lambda: panel.actions_.adder.add(LEFT)


def test_a_stopped_analysis_removes_its_first_pass(looked, qtbot):
    """With the contour that came with one of its candidates: the next one begins unaided."""
    panel, _ = looked
    panel.commands.run("next_candidate")
    assert panel.session.state.choices.overlay is Overlay.CONTOUR
    panel.jobs.stop()
    wait(qtbot, panel)
    assert panel.session.state.preliminary is None
    assert panel.session.state.choices.overlay is Overlay.OFF
    assert not panel.candidates.isVisibleTo(panel)
