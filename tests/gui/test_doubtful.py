"""A doubtful part of an outline: gone to by key, dotted in the picture, left out and taken back."""

from dataclasses import replace

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel
from tests.gui.conftest import FakeResult
from tests.gui.window import PATIENCE_MS, wait

from lesionlens.base.labels import MrSequence, ReviewState
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.findings import Considered, DoubtfulPart, Location
from lesionlens.napari.model.choices.choices import Overlay
from lesionlens.napari.model.choices.views import Layout
from lesionlens.napari.model.overlays.maps import overlays_of
from lesionlens.napari.model.screen.drawing import DOUBT_COLOUR


@pytest.fixture
def doubted(analysis):
    """The head with the front half of the first candidate named as doubtful."""
    grid = analysis.volumes.labels.grid
    places = np.argwhere(analysis.findings.components == 1)
    half = places[places[:, 1] >= np.median(places[:, 1])]
    numbers = np.zeros(grid.shape, np.uint16)
    numbers[tuple(half.T)] = 1
    x, y, z = (float(v) for v in grid.to_mm(half.mean(axis=0)))
    ml = len(half) * grid.voxel_ml
    part = DoubtfulPart(1, 1, ml, (x, y, z), 0.6, (MrSequence.FLAIR,), (MrSequence.T2,))
    return replace(
        analysis,
        volumes=replace(analysis.volumes, doubtful=Volume(numbers, grid)),
        findings=replace(analysis.findings, doubtful=(part,)),
    )


def settled(panel, qtbot):
    wait(qtbot, panel)
    assert panel.session.state.problem is None, panel.session.state.problem


def dotted(panel):
    """Return how many dots each linked view draws."""
    linked = panel.views.linked
    drawings = [linked.drawing(view.tile) for view in linked.tiles]
    return [
        sum(len(lines) for colour, lines in drawing.outlines if colour == DOUBT_COLOUR)
        for drawing in drawings
        if drawing is not None
    ]


def test_a_doubtful_part_is_shown_left_out_and_taken_back(loaded, doubted, qtbot):
    loaded.actions_.show_result(FakeResult(doubted), overlays_of(doubted))
    loaded.actions_.show_layout(Layout.FOUR)
    loaded.session.go_to_candidate(1)
    loaded.commands.run("leave_out")
    assert loaded.session.state.message == "Go to a doubtful part first."
    loaded.session.choose_overlay(Overlay.OFF)
    loaded.commands.run("next_doubtful")
    assert loaded.session.state.choices.overlay is Overlay.CONTOUR, "gone to and not shown"
    assert "FLAIR alone shows it; T2 speaks against it" in loaded.session.state.message
    qtbot.waitUntil(lambda: min(dotted(loaded), default=0) > 3, timeout=PATIENCE_MS)
    before = np.count_nonzero(doubted.findings.components == 1)
    loaded.viewer.dims.ndisplay = 3
    loaded.commands.run("leave_out")
    assert loaded.session.state.message.startswith("No doubtful part is drawn in 3-D")
    loaded.viewer.dims.ndisplay = 2
    loaded.commands.run("next_doubtful")
    loaded.commands.run("reject")
    loaded.commands.run("leave_out")
    settled(loaded, qtbot)
    assert "No longer rejected: 1." in loaded.session.state.message, "it counted again in silence"
    shown = loaded.session.state.analysis
    left = np.count_nonzero(shown.findings.components == 1)
    assert left == before - np.count_nonzero(doubted.volumes.doubtful.data)
    assert shown.findings.doubtful == ()
    event = loaded.session.state.review.of(shown.findings.candidates[0].tracking_uid)
    assert event.state is ReviewState.EDITED
    assert "doubtful part" in event.reason
    qtbot.waitUntil(lambda: max(dotted(loaded), default=0) == 0, timeout=PATIENCE_MS)
    loaded.commands.run("undo")
    settled(loaded, qtbot)
    assert loaded.session.state.analysis.findings.doubtful == doubted.findings.doubtful


def test_a_doubtful_part_asked_for_while_an_undo_is_measured_is_shown_afterwards(
    loaded, doubted, qtbot
):
    """What was said of it was gone at the end of the undo."""
    loaded.actions_.show_result(FakeResult(doubted), overlays_of(doubted))
    loaded.session.go_to_candidate(1)
    loaded.commands.run("next_doubtful")
    loaded.commands.run("leave_out")
    settled(loaded, qtbot)
    loaded.commands.run("undo")
    assert loaded.actions_.review_controller.busy
    loaded.commands.run("next_doubtful")
    assert "the doubtful part is shown once it finishes" in loaded.session.state.message
    settled(loaded, qtbot)
    assert loaded.session.state.message.startswith("Doubtful part 1 (1 of 1)")
    assert loaded.actions_.doubtful_here() is not None


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_a_part_that_an_edit_erased_in_part_is_left_out_with_what_remains(
    loaded, doubted, qtbot, share
):
    """The message and the recorded reason gave the millilitres of before the edit."""
    loaded.actions_.show_result(FakeResult(doubted), overlays_of(doubted))
    loaded.session.go_to_candidate(1)
    loaded.commands.run("next_doubtful")
    (part,) = doubted.findings.doubtful
    loaded.commands.run("edit_outline")
    editor, grid = loaded.actions_.editor, loaded.session.state.overlays.grid
    labels = editor.drawn().current.copy()
    voxels = np.argwhere(labels > 0)
    inside = doubted.volumes.doubtful
    doubtful = inside.data[tuple(inside.grid.nearest_voxel(grid.to_mm(voxels)).T)] > 0
    erased = voxels[doubtful][: int(share * doubtful.sum())]
    labels[tuple(erased.T)] = 0
    assert editor.change(labels)
    loaded.commands.run("leave_out")
    settled(loaded, qtbot)
    last, message = loaded.session.state.review.events[-1], loaded.session.state.message
    if share == 1.0:
        assert message == "Most of that doubtful part is no longer in the outline."
        assert last.reason is None
        return
    assert part.number not in [
        one.number for one in loaded.session.state.analysis.findings.doubtful
    ]
    left_ml = (1 - share) * part.volume_ml
    assert float(message.split()[0]) == pytest.approx(left_ml, rel=0.1)
    assert last.reason == f"doubtful part of {message.split()[0]} ml left out"


def test_a_dismissed_place_is_gone_to_by_its_words_and_centred(loaded, analysis, qtbot):
    place = (-38.0, 4.0, 5.0)
    there = np.array([[12, 20, 18]])
    dismissed = Considered(0.07, Location("left", "insula"), place, place, 0.4, there)
    found = replace(analysis.findings, considered=(dismissed,))
    own = replace(analysis, findings=found)
    loaded.actions_.show_result(FakeResult(own), overlays_of(own))
    loaded.considered.heading.setChecked(True)
    (line,) = [w for w in loaded.considered.lines.findChildren(QLabel) if "ml" in w.text()]
    qtbot.mouseClick(line, Qt.MouseButton.LeftButton)
    assert loaded.viewer.dims.point[-1] == place[2]
    assert tuple(loaded.viewer.scene.camera.center[-2:]) == pytest.approx((place[1], place[0]))
