"""Outlines drawn in linked views: what the pointer paints on a slice lies there in the patient."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from qtpy.QtCore import QEvent, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QApplication, QWidget
from tests.gui.window import PATIENCE_MS

from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.napari.model.acts.session import ReviewSession
from lesionlens.napari.model.acts.views import ViewActs
from lesionlens.napari.model.choices.views import Layout
from lesionlens.napari.model.geometry.planes import Plane
from lesionlens.napari.model.geometry.slices import Frame, OrientedVolume
from lesionlens.napari.model.screen.board import Board, Tile
from lesionlens.napari.viewer.board_view import BoardView

LEFT_BUTTON, NOTHING_HELD = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier


@pytest.fixture
def edited(reviewed):
    """The first candidate in three linked planes, its outline open."""
    reviewed.viewer.window.resize(1100, 700)
    reviewed.viewer.show()
    reviewed.actions_.show_layout(Layout.PLANES)
    QApplication.processEvents()
    reviewed.session.go_to_candidate(1)
    reviewed.commands.run("edit_outline")
    QApplication.processEvents()
    return reviewed


def layer_of(panel):
    return panel.viewer.layers.selection.active


def changed(panel):
    """Millimetres of the voxels that differ from what the edit began with."""
    before, now, _ = panel.actions_.editor.drawn()
    return panel.session.state.overlays.grid.to_mm(np.argwhere(before != now))


def stroke(qtbot, view, *points):
    """Drag over a view, through points of the patient (RAS+ mm)."""
    linked = view.parentWidget()
    drawing = linked.drawing(view.tile)
    frame, to = linked.board.frame, view.projection(drawing)
    at = [to.point(*frame.on_screen(view.tile.plane, p)).toPoint() for p in points]
    qtbot.mousePress(view, LEFT_BUTTON, NOTHING_HELD, at[0])
    for place in at[1:]:
        move = QMouseEvent(
            QEvent.Type.MouseMove, QPointF(place), QPointF(view.mapToGlobal(place)),
            LEFT_BUTTON, LEFT_BUTTON, NOTHING_HELD,
        )  # fmt: skip
        QApplication.sendEvent(view, move)
    qtbot.mouseRelease(view, LEFT_BUTTON, NOTHING_HELD, at[-1])


OUTWARD = {Plane.AXIAL: (0, 14, 0), Plane.CORONAL: (0, 0, 14), Plane.SAGITTAL: (0, 14, 0)}


def test_a_stroke_on_a_linked_view_lies_there_in_the_patient_and_is_one_step(edited, qtbot):
    layer_of(edited).brush_size = 4
    linked = edited.views.linked
    radius = linked.brush_mm(linked.tiles[0].tile)
    assert {view.tile.plane for view in edited.views.linked.tiles} == set(Plane)
    for view in edited.views.linked.tiles:
        plane = view.tile.plane
        start = edited.actions_.viewpoint.current.point_mm
        end = tuple(np.add(start, OUTWARD[plane]))
        stroke(qtbot, view, start, end)
        painted = changed(edited)
        assert len(painted) > 10
        across = plane.through
        along = int(np.argmax(np.abs(OUTWARD[plane])))
        other = ({0, 1, 2} - {across, along}).pop()
        assert len(set(painted[:, across])) == 1
        assert abs(painted[0, across] - start[across]) <= 2.0  # voxels of 4 mm
        assert np.abs(painted[:, other] - start[other]).max() <= radius + 1.0
        assert start[along] + 10.0 < painted[:, along].max() <= end[along] + radius + 1.0
        edited.commands.run("undo")
        assert len(changed(edited)) == 0
        edited.commands.run("redo")
        assert len(changed(edited)) == len(painted)
        edited.commands.run("undo")


def test_what_is_drawn_is_seen_at_once_and_kept_on_its_own_side(edited, qtbot):
    linked = edited.views.linked
    view = linked.tiles[0]
    here = edited.actions_.viewpoint.current.point_mm
    lines = sum(len(line) for _, found in linked.drawing(view.tile).outlines for line in found)
    layer_of(edited).mode = "erase"
    layer_of(edited).brush_size = 60
    stroke(qtbot, view, here)
    after = sum(len(line) for _, found in linked.drawing(view.tile).outlines for line in found)
    assert after < lines
    assert linked.brush_mm(view.tile) > 20

    edited.commands.run("undo")
    layer_of(edited).brush_size = 6
    before = edited.session.state.focused
    layer_of(edited).mode = "erase"
    stroke(qtbot, edited.views.linked.tiles[0], edited.actions_.viewpoint.current.point_mm)
    erased = changed(edited)
    assert len(erased)
    edited.commands.run("edit_outline")
    qtbot.waitUntil(lambda: edited.session.state.editing is None, timeout=PATIENCE_MS)
    found = edited.session.state.analysis
    i, j, k = np.rint(found.prepared.native.to_voxel(erased.mean(axis=0))).astype(int)
    assert found.findings.components[i, j, k] == 0
    now = next(c for c in found.findings.candidates if c.tracking_uid == before.tracking_uid)
    assert np.sign(now.centroid_mm[0]) == np.sign(before.centroid_mm[0])


class Recorder:
    """A brush that records the slices on which it is pressed."""

    takes_pointer = True

    def __init__(self):
        self.slabs = []

    def press(self, point, slab):
        self.slabs.append(slab)
        return True

    def interrupt(self):
        pass

    def lift(self):
        pass


@pytest.mark.parametrize("off_centre", [-0.45, 0.0, 0.45])
def test_a_stroke_on_an_interpolated_view_is_on_one_slice_of_the_oblique_sequence(
    qtbot, off_centre
):
    """It lay astride two slices, and each of them was given every third line of the stroke."""
    parent = QWidget()
    qtbot.addWidget(parent)
    angle = np.radians(20)
    affine = np.eye(4)
    affine[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine[:3, 2] *= 5.0
    thick, other = Grid((40, 40, 8), affine), Grid((60, 60, 60), np.eye(4))
    frame, acts = Frame.acquired(thick), ViewActs(ReviewSession())
    acts.editor = SimpleNamespace(outline=None, brush_mm=3.0)
    viewpoint = acts.viewpoint
    assert frame.tilted
    brush = Recorder()
    view = BoardView(acts, brush, lambda _: (0.0, 1.0), parent)
    view.set_pictures(
        {
            sequence: OrientedVolume.of(np.zeros(grid.shape, np.float32), grid)
            for sequence, grid in ((MrSequence.T1C, thick), (MrSequence.FLAIR, other))
        }
    )
    tiles = (Tile(MrSequence.T1C, Plane.AXIAL), Tile(MrSequence.FLAIR, Plane.AXIAL, 0, 1))
    view.show_board(Board(tiles=tiles, frame=frame, grid=thick, opened=True))
    viewpoint.move(point_mm=tuple(thick.to_mm((20, 20, 4 + off_centre))))
    for tile in tiles:
        view.pressed(tile, (0.0, 0.0))
    acquired, interpolated = brush.slabs
    assert acquired.depth_mm == pytest.approx(frame.depth(Plane.AXIAL, thick.to_mm((20, 20, 4))))
    assert interpolated.depth_mm == pytest.approx(acquired.depth_mm)
    assert interpolated.thickness_mm == pytest.approx(5.0)
    # a sequence that was registered is shown: the planes follow the reference
    analysis = SimpleNamespace(prepared=SimpleNamespace(native=thick))
    view.board = replace(view.board, grid=other, analysis=analysis)
    view.pressed(tiles[1], (0.0, 0.0))
    assert brush.slabs[-1].depth_mm == pytest.approx(acquired.depth_mm)
    assert brush.slabs[-1].thickness_mm == pytest.approx(5.0)
    beyond = tuple(thick.to_mm((20, 20, 9)))  # where that sequence has no slice
    viewpoint.move(point_mm=beyond)
    view.pressed(tiles[1], (0.0, 0.0))
    assert brush.slabs[-1].thickness_mm == 1.0
    assert brush.slabs[-1].depth_mm == pytest.approx(frame.depth(Plane.AXIAL, beyond), abs=0.5)
    view.release()
