"""Which voxels and grids no scan of a head can have."""

import pytest

from lesionlens.base import scan_limits
from lesionlens.base.errors import ReadError


@pytest.mark.parametrize("shape", [(520, 520, 517), (1, 140_000_000, 1)])
def test_the_largest_volume_is_taken(shape):
    scan_limits.check_size(shape, "x")


@pytest.mark.parametrize(
    "shape", [(520, 520, 518), (1, 140_000_001, 1), (2**31, 2**31, 2**31), (0, 5, 5), (5, 5), ()]
)
def test_more_voxels_than_a_head_has_and_less_than_a_volume_are_refused(shape):
    with pytest.raises(ReadError):
        scan_limits.check_size(shape, "x")
