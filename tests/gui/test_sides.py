"""The letter at an edge names the patient's side that is there: read from the pixels themselves.

One half of the head is painted blue at a time, so that a screenshot says where the patient's
right, front and top really are; nothing of the code that writes the letters is asked.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from napari import current_viewer
from napari.layers import Layer
from napari.settings import get_settings
from qtpy.QtWidgets import QApplication

from lesionlens.base.run_context import SILENT
from lesionlens.napari.loading import layers_of
from lesionlens.napari.model.geometry.planes import Plane

SIDES = (("R", "L"), ("A", "P"), ("S", "I"))
"""Of each axis of our arrays: where it grows to, and the other end."""
PLACES = ("middle_left", "middle_right", "top_center", "bottom_center")
VERTICAL, HORIZONTAL = ("down", "up"), ("right", "left")


@pytest.fixture
def shown(panel, analysis):
    """The study, opened after the panel, in a window that is really painted."""
    for data in layers_of(analysis.study, SILENT):
        panel.viewer.layers.append(Layer.create(*data))
    settings = get_settings().application
    before = settings.vertical_axis_orientation, settings.horizontal_axis_orientation
    current_viewer().window.resize(700, 500)
    current_viewer().show()
    panel.session.notify("")
    yield panel
    settings.vertical_axis_orientation, settings.horizontal_axis_orientation = before


def letters(panel):
    overlays = current_viewer().canvas.overlays
    return [overlays[f"lesionlens_{place}"].text for place in PLACES]


def painted_half(panel, axis):
    """Where on the screen the upper half of an axis is: (rightwards, downwards) of the middle."""
    viewer, layer = current_viewer(), current_viewer().layers["T1c"]
    data = np.zeros(layer.data.shape, np.float32)
    where = [slice(None)] * 3
    where[axis] = slice(data.shape[axis] // 2, None)
    data[tuple(where)] = 1.0
    layer.data, layer.colormap, layer.contrast_limits = data, "blue", (0.0, 1.0)
    viewer.reset_view()
    middle = layer.data_to_world((np.asarray(data.shape) - 1) / 2)
    viewer.dims.set_point(range(viewer.dims.ndim - 3, viewer.dims.ndim), middle)
    axes = [axis - viewer.dims.ndim + 3 for axis in viewer.dims.order[-3:]]
    viewer.scene.camera.center = [middle[axis] for axis in axes]
    QApplication.processEvents()
    picture = viewer.screenshot(canvas_only=True, flash=False)
    blue = (picture[..., 2] > 200) & (picture[..., 0] < 60)
    assert blue.any(), "the painted half is not on the screen"
    down, right = np.argwhere(blue).mean(axis=0) - np.asarray(blue.shape) / 2
    return right, down


def seen_letters(panel):
    """The letters that the pixels ask for, at the left, right, top and bottom edge."""
    found = [""] * 4
    height = current_viewer().canvas.size[0]
    through = current_viewer().dims.order[-3] - (current_viewer().dims.ndim - 3)
    for axis, (grows, other) in enumerate(SIDES):
        if axis == through:
            continue
        right, down = painted_half(panel, axis)
        if abs(right) > height / 10:
            found[0], found[1] = (other, grows) if right > 0 else (grows, other)
        if abs(down) > height / 10:
            found[2], found[3] = (other, grows) if down > 0 else (grows, other)
    return found


RIGHT_WAY = {
    Plane.AXIAL: ["R", "L", "A", "P"],
    Plane.CORONAL: ["R", "L", "S", "I"],
    Plane.SAGITTAL: ["A", "P", "S", "I"],
}


def test_each_plane_is_radiological_and_letters_stay_true_whatever_napari_prefers(shown):
    for plane in Plane:
        shown.session.choose_plane(plane)
        assert letters(shown) == seen_letters(shown) == RIGHT_WAY[plane]
    settings, viewer = get_settings().application, current_viewer()
    for vertical, horizontal in itertools.product(VERTICAL, HORIZONTAL):
        settings.vertical_axis_orientation = vertical
        settings.horizontal_axis_orientation = horizontal
        assert letters(shown) == seen_letters(shown)
    for order in itertools.permutations(range(3)):
        viewer.dims.order = order
        assert letters(shown) == seen_letters(shown), order


def test_letters_of_a_picture_that_was_mirrored_or_turned_by_hand_are_true(shown):
    layer = current_viewer().layers["T1c"]
    scale, translate = tuple(layer.scale), tuple(layer.translate)
    layer.scale = (-scale[0], *scale[1:])
    assert letters(shown) == seen_letters(shown)
    layer.rotate = np.diag([-1.0, -1.0, 1.0])  # about the feet-to-head axis
    layer.translate = (-translate[0], -translate[1], translate[2])
    assert letters(shown) == seen_letters(shown)


def test_a_volume_over_time_beside_the_study_leaves_the_letters_true(shown):
    current_viewer().add_image(np.zeros((3, 4, 5, 6), np.float32), visible=False)
    shown.session.choose_plane(Plane.CORONAL)
    assert letters(shown) == ["R", "L", "S", "I"] == seen_letters(shown)


def test_going_to_a_candidate_centres_it_also_when_zoomed_in(reviewed, analysis):
    first, second = analysis.findings.candidates
    viewer = current_viewer()
    reviewed.session.go_to_candidate(first.id)
    viewer.scene.camera.zoom = 30.0
    reviewed.commands.run("next_candidate")
    for plane in Plane:
        reviewed.session.choose_plane(plane)
        reviewed.session.go_to_candidate(second.id)
        shown = np.asarray(second.centroid_mm)[list(viewer.dims.order)]
        np.testing.assert_allclose(viewer.scene.camera.center[-2:], shown[-2:], atol=0.1)
        corners = np.asarray(second.bounding_box_mm)[:, list(viewer.dims.order)][:, -2:]
        on_screen = (corners[1] - corners[0]) * viewer.scene.camera.zoom
        assert (on_screen <= viewer.canvas.size).all(), "larger than the view"


def test_a_candidate_that_fits_keeps_the_zoom(reviewed):
    viewer = current_viewer()
    viewer.scene.camera.zoom = 0.5
    reviewed.session.go_to_candidate(2)
    assert viewer.scene.camera.zoom == pytest.approx(0.5)
