"""What napari's own menus and tools do to layers of a study leaves the review true."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Image, Labels
from qtpy.QtWidgets import QApplication

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
def test_what_napari_makes_of_an_image_is_never_the_image(shown, act):
    """Its labels were shown as T1c, and after a projection no plane could be chosen."""
    before = shown.views._layers.voxels_by_sequence()
    images = {sequence: shown.layers.image_layer(sequence) for sequence in before}
    act(shown.viewer.layers)
    QApplication.processEvents()
    after = shown.views._layers.voxels_by_sequence()
    for sequence, (data, grid) in after.items():
        assert shown.layers.image_layer(sequence) is images[sequence]
        assert data is before[sequence][0]
        np.testing.assert_array_equal(grid.affine, before[sequence][1].affine)
    for _ in Plane:
        shown.actions_.next_plane()
        plane = shown.session.state.choices.plane
        assert shown.views.single.edges().left == ("A" if plane is Plane.SAGITTAL else "R")
    shown.actions_.show_layout(Layout.FOUR)
    assert len(shown.views.linked.tiles) == 4
