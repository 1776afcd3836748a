import numpy as np
import pytest
from scipy import ndimage

from lesionlens.network.prompt.distances import distances_to

SHAPE = (9, 14, 11)


@pytest.mark.parametrize("count", [1, 3, 24, 25, 60])
def test_distances_are_those_of_the_distance_transform_for_few_points_and_many(count):
    rng = np.random.default_rng(count)
    points = np.stack([rng.integers(0, n, count) for n in SHAPE], 1)
    away = np.ones(SHAPE, bool)
    away[tuple(points.T)] = False
    assert np.array_equal(distances_to(points, SHAPE), ndimage.distance_transform_edt(away))
