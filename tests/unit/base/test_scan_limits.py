"""Which voxels and grids no scan of a head can have."""

import numpy as np
import pytest

from lesionlens.base import scan_limits
from lesionlens.base.errors import ReadError, UnusableInputError


@pytest.mark.parametrize("shape", [(520, 520, 517), (1, 140_000_000, 1)])
def test_the_largest_volume_is_taken(shape):
    scan_limits.check_size(shape, "x")


@pytest.mark.parametrize(
    "shape", [(520, 520, 518), (1, 140_000_001, 1), (2**31, 2**31, 2**31), (0, 5, 5), (5, 5), ()]
)
def test_more_voxels_than_a_head_has_and_less_than_a_volume_are_refused(shape):
    with pytest.raises(ReadError):
        scan_limits.check_size(shape, "x")


@pytest.fixture(scope="module")
def head():
    """Return (40, 40, 40) smooth intensities of 0 to 1000 on a background of zero."""
    axes = np.ogrid[-1:1:40j, -1:1:40j, -1:1:40j]
    return (1000 * np.clip(1 - sum(axis**2 for axis in axes), 0, None)).astype(np.float32)


@pytest.mark.parametrize("scale", [1.0, 0.01])
def test_an_image_below_its_background_is_called_inverted(head, scale):
    with pytest.raises(UnusableInputError, match="dark where"):
        scan_limits.check_voxels(-head * np.float32(scale), "x")


@pytest.mark.parametrize("padding", [-1000, -2048])
def test_air_near_minus_1000_is_a_ct(head, padding):
    air = np.random.default_rng(0).normal(-1000, 20, head.shape)
    air[:8] = padding
    scan = np.where(head > 0, head / 10, air).astype(np.float32)
    with pytest.raises(UnusableInputError, match="CT"):
        scan_limits.check_voxels(scan, "x")


@pytest.mark.parametrize("padding", [-2000, -32768])
def test_an_mr_scan_within_padding_is_no_ct(head, padding):
    """A scan whose header declares padding of -32768 was refused as CT."""
    scan = head.copy()
    scan[:8] = padding
    scan_limits.check_voxels(scan, "x")
