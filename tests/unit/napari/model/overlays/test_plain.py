"""The result as layers of any other plugin: the same voxels at the same millimetres."""

from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from napari.layers import Layer
from tests.helpers.analysed_head import analysis, head  # noqa: F401  fixtures

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.grid import Grid
from lesionlens.base.records.arrays import Volume
from lesionlens.napari import writer
from lesionlens.napari.model.overlays.plain import plain_layers


def test_layers_hold_the_voxels_and_lead_to_the_patients_millimetres(analysis):  # noqa: F811
    made = {data[1]["name"]: Layer.create(*data) for data in plain_layers(analysis)}
    regions = {f"probability_{region.value}" for region in analysis.volumes.probability}
    maps = {f"attention_{region.value}" for region in analysis.volumes.attention}
    assert {"segmentation"} | regions | maps <= set(made)
    labels = analysis.volumes.labels
    layer = made["segmentation"]
    assert np.array_equal(layer.data, labels.data)
    assert np.allclose(layer.scale, labels.grid.spacing_mm)
    for voxel in ((0, 0, 0), (3, 5, 7)):
        assert np.allclose(layer.data_to_world(voxel), labels.grid.to_mm(voxel))
    assert "lesionlens" not in layer.metadata  # nobody takes them for layers of the window


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")
@pytest.mark.parametrize("oblique", [False, True])
def test_naparis_save_writes_them_where_they_lie(analysis, tmp_path, oblique):  # noqa: F811
    """Its dialog names the first writer that takes NIfTI, which refused what it had not made."""
    labels = analysis.volumes.labels
    turn = np.eye(4)
    if oblique:
        turn[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    grid = Grid(labels.grid.shape, turn @ labels.grid.affine)
    volumes = replace(analysis.volumes, labels=Volume(labels.data, grid))
    data, keywords, kind = plain_layers(replace(analysis, volumes=volumes))[-1]
    layer = Layer.create(data, keywords, kind)
    state = layer.as_layer_data_tuple()
    (named,) = writer.write_labels(str(tmp_path / "kept"), layer.data, state[1])
    assert named.endswith("kept.nii.gz")
    read = nib.load(named)
    assert np.allclose(read.affine, grid.affine, atol=1e-4)
    assert np.array_equal(np.asarray(read.dataobj), labels.data)
    other = state[1] | {"axis_labels": ("axis -3", "axis -2", "axis -1"), "metadata": {}}
    with pytest.raises(UnusableInputError):
        writer.write_image(str(tmp_path / "other.nii"), layer.data, other)


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")
def test_an_oblique_grid_keeps_its_turn(analysis):  # noqa: F811
    labels = analysis.volumes.labels
    turn = np.eye(4)
    turn[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    grid = Grid(labels.grid.shape, turn @ labels.grid.affine)
    turned = replace(analysis, volumes=replace(analysis.volumes, labels=Volume(labels.data, grid)))
    made = [Layer.create(*data) for data in plain_layers(turned)]
    assert np.allclose(made[-1].data_to_world((3, 5, 7)), grid.to_mm((3, 5, 7)))
    assert not any(layer.visible for layer in made), "napari would draw it beside the lesion"
    assert Layer.create(*plain_layers(analysis)[-1]).visible
