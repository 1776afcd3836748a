"""A diameter by hand stays on one axial plane of the patient."""

from __future__ import annotations

import numpy as np
import pytest

from lesionlens.napari.model.geometry.rulers import Ruler

TILT = 0.05
"""Of an oblique acquisition, radians: its slices still show the diameters."""


@pytest.mark.parametrize("end", [0, 1])
def test_an_end_dragged_on_an_oblique_or_neighbouring_slice_stays_on_the_axial_plane(end):
    """It lay up to 2.5 mm above or below, and the length was of a slanting line."""
    ruler = Ruler((-20.0, 0.0, 40.0), (20.0, 0.0, 40.0))
    through = (0.0, -np.sin(TILT), np.cos(TILT))
    on_slice = (25.0, 30.0, 42.0)
    moved = ruler.with_end(end, on_slice, through)
    ends = np.array([moved.start, moved.end])
    np.testing.assert_allclose(ends[:, 2], 40.0)
    np.testing.assert_allclose(ends[1 - end], (ruler.start, ruler.end)[1 - end])
    assert np.cross(ends[end] - on_slice, through) == pytest.approx(0.0, abs=1e-9), "seen elsewhere"
    assert moved.moved
