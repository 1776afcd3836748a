"""A smoothed scan is reported; scans as acquired, thick slices, noise and coarse voxels are not."""

import numpy as np
import pytest
from scipy import ndimage

from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.imaging.preparation.checks import smoothed

T1C = MrSequence.T1C
EDGE = 48


@pytest.fixture(scope="module")
def scan():
    """Tissue whose detail is as fine as its voxels of 1 mm, within an empty margin."""
    rng = np.random.default_rng(0)
    brain = np.zeros((EDGE,) * 3, np.float32)
    brain[6:-6, 6:-6, 6:-6] = 1.0
    scales = (ndimage.gaussian_filter(rng.normal(size=brain.shape), s) for s in (0.5, 1, 2, 4))
    texture = sum(layer / layer.std() * 2**power for power, layer in enumerate(scales))
    return (brain * (1.0 + 0.3 * texture / texture.std()).clip(0.4)).astype(np.float32)


def grid(values, spacing_mm=(1.0, 1.0, 1.0)):
    return Grid(values.shape, np.diag([*spacing_mm, 1.0]))


def smooth(values, width_mm, spacing_mm=(1.0, 1.0, 1.0)):
    return ndimage.gaussian_filter(values, np.divide(width_mm, spacing_mm) / 2.355)


@pytest.mark.parametrize("width_mm", [4.0, 6.0])
def test_a_smoothed_scan_is_reported(scan, width_mm):
    smoothed_scan = smooth(scan, width_mm)
    found = smoothed.check({T1C: (smoothed_scan, grid(scan)), MrSequence.T2: (scan, grid(scan))})
    assert not found.passed
    assert "missing in T1c," in found.message


def test_a_scan_and_its_thick_slices_are_not_reported(scan):
    assert smoothed.check({T1C: (scan, grid(scan))}) is None
    thick = scan.reshape(EDGE, EDGE, EDGE // 4, 4).mean(axis=3)
    assert smoothed.check({T1C: (thick, grid(thick, (1.0, 1.0, 4.0)))}) is None
    assert smoothed.check({T1C: (smooth(scan, (0.0, 0.0, 6.0)), grid(scan))}) is None


def test_voxels_finer_than_the_detail_are_not_reported_but_smoothing_is(scan):
    fine = ndimage.zoom(scan, 2, order=3)
    half = (0.5, 0.5, 0.5)
    assert smoothed.check({T1C: (fine, grid(fine, half))}) is None
    assert smoothed.check({T1C: (smooth(fine, 4.0, half), grid(fine, half))}) is not None


def test_coarse_voxels_and_empty_scans_are_not_judged(scan):
    blurred = smooth(scan, 4.0)
    assert smoothed.detail(blurred, grid(scan, (2.0, 2.0, 2.0))) is None
    assert smoothed.detail(np.zeros_like(scan), grid(scan)) is None
