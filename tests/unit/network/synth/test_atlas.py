"""The bundled anatomies: whole, upright, about their brain's middle, and what each is made of."""

import numpy as np
import pytest
import torch

from lesionlens.network.synth import classes
from lesionlens.network.synth.anatomy import Pose
from lesionlens.network.synth.atlas import (
    AVERAGE,
    CEREBELLUM,
    INDIVIDUALS,
    MASK,
    load_atlas,
    load_labels,
)
from lesionlens.network.synth.fields import RandomStreams
from lesionlens.network.synth.tumour import plan_lesions

CPU = torch.device("cpu")


@pytest.mark.parametrize("head", INDIVIDUALS)
def test_every_head_is_whole_and_as_large_as_heads_are(head):
    labels, affine = load_labels(head)
    litres = np.bincount(labels.numpy().ravel(), minlength=classes.COUNT) / 1e6
    assert 1.0 < litres[list(classes.BRAIN)].sum() < 1.7
    assert litres[classes.BONE] > 0.2
    assert litres[classes.SOFT] > 0.3
    for small in (classes.THALAMUS, classes.STEM, classes.VENTRICLE, classes.CEREBELLAR_CORTEX):
        assert litres[small] > 0.002
    assert abs(float(torch.linalg.det(affine[:3, :3])) - 1) < 1e-3


@pytest.mark.parametrize("spacing", [1.2, 2.0, 3.2])
def test_maps_are_shares_of_tissue_centred_on_the_brain(spacing):
    atlas = load_atlas(INDIVIDUALS[0], spacing, CPU)
    maps = atlas.maps
    torch.testing.assert_close(maps[:5].sum(0), torch.ones_like(maps[0]), atol=0.02, rtol=0)
    inside = (maps[MASK] > 0.5).nonzero().float()
    middle = (inside.amin(0) + inside.amax(0)) / 2
    zero = atlas.to_voxel[:, 3]
    assert float((middle - zero).abs().max()) < 6 / round(spacing)


def test_the_cerebellum_lies_below_and_behind():
    for head in (AVERAGE, *INDIVIDUALS[:3]):
        atlas = load_atlas(head, 2.0, CPU)
        found = (atlas.maps[CEREBELLUM] * atlas.maps[MASK] > 0.5).nonzero().float().mean(0)
        where = torch.linalg.solve(atlas.to_voxel[:, :3], found - atlas.to_voxel[:, 3])
        assert abs(float(where[0])) < 6
        assert float(where[1]) < -10
        assert float(where[2]) < -20


def test_tumours_sit_in_stem_thalamus_cerebellum_and_chiasm_too():
    still = Pose(torch.eye(3).expand(200, 3, 3), torch.zeros(200, 3))
    head = INDIVIDUALS[0]
    labels, affine = load_labels(head)
    first = plan_lesions(RandomStreams(range(200), CPU), [head] * 200, still, 0.0).centre[:, 0]
    voxel = ((first - affine[:3, 3]) @ torch.linalg.inv(affine[:3, :3]).T).round().long()
    found = labels[tuple(voxel.T)].long()
    counts = torch.bincount(found, minlength=classes.COUNT)
    cerebellum = counts[classes.CEREBELLAR_CORTEX] + counts[classes.CEREBELLAR_WHITE]
    assert counts[classes.STEM] >= 4
    assert counts[classes.THALAMUS] >= 2
    assert cerebellum >= 6
    assert counts[classes.WHITE] > 60
    assert float(counts[list(classes.SITE_WEIGHTS)].sum()) == len(found)
