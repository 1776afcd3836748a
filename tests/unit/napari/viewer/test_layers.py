"""Voxels of the images that the window shows."""

from __future__ import annotations

import weakref
from types import SimpleNamespace

import numpy as np
from napari.components import ViewerModel

from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.arrays import Volume
from lesionlens.napari.loading import KEY
from lesionlens.napari.model.acts.session import ReviewSession
from lesionlens.napari.viewer.layers import Layers


def test_an_oblique_scan_has_its_own_voxels_and_another_the_shown_ones():
    """So the names of an opened study are checked on what was acquired."""
    viewer = ViewerModel()
    layers = Layers(viewer, ReviewSession())
    own = Volume(np.ones((4, 5, 2), np.float32), Grid((4, 5, 2), np.diag([1.0, 1.0, 4.0, 1.0])))
    shown = np.arange(270, dtype=np.int16).reshape(5, 6, 9)
    for sequence, acquired in (("t1", own), ("t2", None)):
        metadata = {KEY: {"sequence": sequence, "acquired": acquired}}
        layers.adopt(viewer.add_image(shown, translate=(3.0, 0.0, 0.0), metadata=metadata))
    voxels = layers.voxels_by_sequence()
    assert voxels[MrSequence.T1] == (own.data, own.grid)
    np.testing.assert_array_equal(voxels[MrSequence.T2][0], shown)
    np.testing.assert_allclose(voxels[MrSequence.T2][1].to_mm(np.zeros(3)), (3.0, 0.0, 0.0))


def test_a_closed_study_is_released():
    class Opened:
        """A study."""

    layers, study = Layers(ViewerModel(), ReviewSession()), Opened()
    opened = weakref.ref(study)
    layers.show_overlays(SimpleNamespace(images={}), study)
    del study
    layers.remove_other_studies(None)
    layers.show_overlays(None, None)
    assert opened() is None
