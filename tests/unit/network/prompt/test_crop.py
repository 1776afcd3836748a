import numpy as np
import pytest
import torch
from scipy import ndimage

from lesionlens.network.prompt.crop import (
    Crop,
    Question,
    Scene,
    gaussians,
    network_input,
    paste,
    sample,
)

N = 16


def positions(crop):
    """The positions of a crop's voxels in the volume, (n, n, n, 3)."""
    along = np.arange(crop.size) - (crop.size - 1) / 2
    steps = np.stack(np.meshgrid(along, along, along, indexing="ij"), -1)
    return steps @ crop.step.T + crop.centre


def test_a_turned_and_mirrored_cube_is_read_as_scipy_reads_it():
    rng = np.random.default_rng(0)
    volume = rng.normal(size=(2, 30, 40, 35)).astype(np.float32)
    step = 1.3 * np.eye(3) + 0.1 * rng.normal(size=(3, 3))
    step[0] *= -1
    crop = Crop(np.array([14.0, 22.0, 9.0]), step, N)
    where = np.moveaxis(positions(crop), -1, 0)
    expected = np.stack([ndimage.map_coordinates(one, where, order=1) for one in volume])
    inside = (positions(crop) >= 0).all(-1) & (positions(crop) <= np.array([29, 39, 34])).all(-1)
    assert inside.any()
    assert not inside.all()
    np.testing.assert_allclose(
        sample(volume, crop).numpy()[:, inside], expected[:, inside], atol=1e-4
    )


def test_points_find_their_voxel_of_the_cube_and_others_are_left_out():
    crop = Crop.straight(np.array([20.0, 20.0, 20.0]), 1.5, N)
    at = positions(crop)[3, 4, 5]
    assert crop.inside(np.stack([at, at + 100])).tolist() == [[3, 4, 5]]


def test_what_is_pasted_back_is_what_was_read():
    ramp = np.indices((40, 44, 42)).sum(0).astype(np.float32)
    crop = Crop.straight(np.array([20.0, 3.0, 20.0]), 1.25, N)
    cube = torch.from_numpy(np.moveaxis(positions(crop), -1, 0).sum(0).astype(np.float32))
    box, values = paste(cube, crop, ramp.shape)
    assert box[1].start == 0
    np.testing.assert_allclose(values, ramp[box], atol=1e-3)


def test_the_sharp_gaussian_keeps_to_the_voxel_and_the_wide_one_does_not():
    marked = np.zeros((N, N, N), bool)
    marked[8, 8, 8] = True
    sharp, wide = gaussians(marked, 1.0)
    assert sharp[8, 8, 8] == wide[8, 8, 8] == 1
    assert sharp[8, 8, 14] < 0.001
    assert wide[8, 8, 14] > 0.5


def scene(present=(True, True, True, True), probability=None):
    images = torch.zeros(4, N, N, N)
    images[3, 8:, :, :] = 2.0
    return Scene(images, torch.ones(1, N, N, N), present, probability, 1.0)


def question(foreground=(), background=(), outline=None, region=None):
    masks = []
    for points in (foreground, background):
        masks.append(np.zeros((N, N, N), bool))
        for at in points:
            masks[-1][at] = True
    return Question(*masks, outline, region)


def test_each_sequence_is_compared_with_where_it_was_pointed_at():
    maps = network_input(scene(), question(foreground=[(12, 8, 8)])).maps[0]
    assert abs(maps[16, 12, 4, 4]) < 0.01  # FLAIR as under the prompt
    assert maps[16, 2, 4, 4] == pytest.approx(-1, abs=0.01)  # two deviations darker
    assert not maps[17:21].any()  # nobody pointed at what does not belong


def test_an_absent_sequence_says_nothing_and_so_does_an_absent_analysis():
    shown = scene(present=(True, True, True, False))
    maps, facts = network_input(shown, question(foreground=[(12, 8, 8)], region=0))
    assert not maps[0, 16].any()
    assert not maps[0, 4:8].any()
    assert facts[0].tolist() == [1, 1, 1, 0, 1, 0, 0, 0, 0, 0, 0]
