"""Windows of images with voxels that have no finite value."""

import numpy as np
import pytest

from lesionlens.napari.model.choices.views import WindowPreset
from lesionlens.napari.model.overlays.window_level import full_range, limits_of


@pytest.mark.parametrize("preset", WindowPreset)
def test_infinite_voxels_are_outside_every_window(preset):
    """One of them kept the study from opening: napari's slider took no infinity."""
    data = np.linspace(0.0, 100.0, 4096, dtype=np.float32).reshape(16, 16, 16)
    low, high = limits_of(data, preset)
    data[3, 3, 3], data[8, 8, 8], data[9, 9, 9] = np.inf, -np.inf, np.nan
    assert limits_of(data, preset) == pytest.approx((low, high), abs=1.0)


def test_a_volume_without_a_finite_value_has_some_range():
    assert full_range(np.full((2, 2, 2), np.nan, np.float32)) == (0.0, 1.0)
