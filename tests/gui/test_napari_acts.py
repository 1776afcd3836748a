"""What napari's own menus and tools do to layers of a study leaves the review true."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Image, Labels, Layer
from qtpy.QtWidgets import QApplication
from tests.gui.test_adding import edit_layer
from tests.gui.window import PATIENCE_MS

from lesionlens.napari.model.choices.choices import Overlay
from lesionlens.napari.model.choices.views import Layout
from lesionlens.napari.model.geometry.planes import Plane


@pytest.fixture
def shown(reviewed):
    """The analysed study on napari's canvas, in a window that is laid out."""
    reviewed.viewer.window.resize(1100, 700)
    reviewed.viewer.show()
    reviewed.actions_.show_layout(Layout.SINGLE)
    QApplication.processEvents()
    return reviewed


def converted(layers):
    """Convert T1c to labels, as napari does with an image of integers."""
    place = layers.index("T1c")
    image = layers.pop(place)
    layers.insert(place, Labels(image.data.astype(int), metadata=image.metadata))


def projected(layers):
    """Project T1c along its first axis, as napari does: the metadata are those of the image."""
    image = layers["T1c"]
    layers.append(Image(image.data.max(0), name="T1c max-proj", metadata=image.metadata))


def stacked(layers):
    """Merge T1 and T1c to a stack, as napari does."""
    images = [layers["T1"], layers["T1c"]]
    for image in images:
        layers.remove(image)
    data = np.stack([image.data for image in images])
    layers.append(Image(data, name="T1", metadata=images[0].metadata))


@pytest.mark.parametrize("act", [converted, projected, stacked])
def test_what_napari_makes_of_an_image_is_never_the_image(shown, qtbot, act):
    """Its labels were shown as T1c, and after a projection no plane could be chosen."""
    layers = shown.viewer.layers
    before = shown.views._layers.voxels_by_sequence()
    images = {sequence: shown.layers.image_layer(sequence) for sequence in before}
    act(layers)
    qtbot.waitUntil(lambda: set(images.values()) <= set(layers), timeout=PATIENCE_MS)
    assert {sequence: shown.layers.image_layer(sequence) for sequence in images} == images
    after = shown.views._layers.voxels_by_sequence()
    for sequence, (data, grid) in before.items():
        assert after[sequence][0] is data
        np.testing.assert_array_equal(after[sequence][1].affine, grid.affine)
    for _ in Plane:
        shown.actions_.next_plane()
        shown.actions_.next_sequence()
        state = shown.session.state.choices
        assert shown.views.single.edges().left == ("A" if state.plane is Plane.SAGITTAL else "R")
        assert shown.layers.image_layer(state.sequence).visible
    shown.actions_.show_layout(Layout.FOUR)
    assert len(shown.views.linked.tiles) == 4


def moved(layer):
    """Move a layer as napari's transform tool and its menu do."""
    away = np.eye(4)
    away[:3, 3] = 20.0, -9.0, 0.0
    layer.affine = away
    layer.translate = np.add(layer.translate, 5.0)
    layer.scale = np.multiply(layer.scale, (-1.0, 1.0, 2.0))


def test_an_outline_or_a_map_that_is_moved_in_napari_is_put_back(shown):
    """Strokes landed in voxels beside those under the pointer, and a map lay beside its lesion."""
    shown.session.go_to_candidate(1)
    shown.session.choose_overlay(Overlay.MAP)
    shown.session.begin_edit()
    maps = [layer for layer in shown.viewer.layers if layer.name.startswith("Attention")]
    for layer in (edit_layer(shown), *maps):
        before = layer.data_to_world((1.0, 2.0, 3.0))
        shown.session.notify("")
        moved(layer)
        assert layer.data_to_world((1.0, 2.0, 3.0)) == pytest.approx(before)
        assert "its position in the patient is restored" in shown.session.state.message
    assert len(maps) == 1


def test_a_copy_may_be_moved(shown):
    layers = shown.viewer.layers
    copied = Layer.create(*layers["T1c"].as_layer_data_tuple())
    copied.name = "T1c copy"
    layers.append(copied)
    place = tuple(np.add(copied.translate, 5.0))
    copied.translate = place
    shown.actions_.next_plane()
    assert tuple(copied.translate) == place
