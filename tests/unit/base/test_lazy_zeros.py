"""Arrays of zeros that take memory where they are written."""

from __future__ import annotations

import pathlib
import sys

import numpy as np
import pytest

from lesionlens.base.lazy_zeros import lazy_zeros, within

LARGE = (64, 256, 256)


@pytest.mark.parametrize("shape", [(2, 3, 4), LARGE, (0, 3, 4)])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.int32])
def test_it_is_an_array_of_zeros_like_any_other(shape, dtype):
    out = lazy_zeros(shape, dtype)
    assert (out.shape, out.dtype) == (shape, np.dtype(dtype))
    assert out.flags.writeable
    assert out.flags.c_contiguous
    np.testing.assert_array_equal(out, np.zeros(shape, dtype))


@pytest.mark.skipif(sys.platform != "linux", reason="numpy's own zeros elsewhere")
def test_only_what_is_written_is_resident():
    def anonymous_kib() -> int:
        with pathlib.Path("/proc/self/status").open(encoding="ascii") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))

    before = anonymous_kib()
    out = lazy_zeros((32, *LARGE), np.uint8)  # 128 MiB
    out[:2] = 1
    assert out.sum(dtype=np.int64) == 2 * out[0].size  # reading takes none
    assert anonymous_kib() - before < 32 << 10


def test_a_copy_is_zero_outside_the_box():
    values = np.arange(1, 28, dtype=np.float32).reshape(3, 3, 3)
    box = (slice(1, 2), slice(0, 2), slice(2, 3))
    out = within(values, box)
    np.testing.assert_array_equal(out[box], values[box])
    assert np.count_nonzero(out) == 2
    assert not within(values, None).any()
