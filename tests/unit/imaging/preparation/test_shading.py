"""Strong shading by a surface coil is taken out, weak shading and lesions are left alone."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from lesionlens.imaging.preparation.shading import STRONG, evened

SHAPE = (60, 70, 50)


@pytest.fixture
def head():
    """Return an ellipsoid of two tissues with noise, and its brain mask."""
    axes = [np.linspace(-1, 1, n) for n in SHAPE]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    brain = x**2 + y**2 + z**2 < 0.8
    tissue = np.where(np.sin(9 * x) * np.sin(8 * y) * np.sin(7 * z) > 0, 100.0, 130.0)
    noise = np.random.default_rng(0).normal(0, 5, SHAPE)
    return ((tissue + noise) * brain).clip(0).astype(np.float32), brain


def _coil(reach):
    """Return how strongly a coil behind the head sees each voxel."""
    axes = [np.linspace(-1, 1, n) for n in SHAPE]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    return (1 / (1 + (x**2 + (y + 1.1) ** 2 + z**2) / reach)).astype(np.float32)


def test_strong_shading_is_taken_out(head):
    image, brain = head
    shaded = image * _coil(0.7)
    even, strength = evened(shaded, brain)
    assert strength > STRONG[1]

    def unevenness(one):
        back, front = (
            np.median(one[:, part][brain[:, part]]) for part in (slice(20), slice(50, 70))
        )
        return back / front

    assert unevenness(shaded) > 2.5
    assert unevenness(even) == pytest.approx(unevenness(image), rel=0.25)


def test_what_is_even_stays_as_it_is(head):
    image, brain = head
    weak = image * _coil(6.0)
    even, strength = evened(weak, brain)
    assert even is weak
    assert 1 < strength < STRONG[0]


def test_a_large_bright_lesion_is_no_shading(head):
    image, brain = head
    axes = np.ogrid[-1 : 1 : SHAPE[0] * 1j, -1 : 1 : SHAPE[1] * 1j, -1 : 1 : SHAPE[2] * 1j]
    x, y, z = axes
    image[(x - 0.3) ** 2 + (y + 0.4) ** 2 + z**2 < 0.15] *= 2.5
    even, strength = evened(image, brain)
    assert even is image
    assert strength < STRONG[0]


def test_an_absent_sequence_stays_absent(head):
    nothing = np.zeros(SHAPE, np.float32)
    assert evened(nothing, head[1]) == (nothing, 1.0)


def test_what_is_taken_out_rises_gradually(head):
    image, brain = head
    left = []
    for reach in np.linspace(0.7, 2.5, 10):
        shaded = image * _coil(reach)
        even, strength = evened(shaded, brain)
        left.append((strength, float(np.abs(even - shaded)[brain].mean() / shaded[brain].mean())))
    strengths, changes = zip(*sorted(left), strict=True)
    assert strengths[0] < STRONG[0] < STRONG[1] < strengths[-1]
    assert all(b >= a - 1e-3 for a, b in pairwise(changes))
    assert any(0 < change < 0.5 * changes[-1] for change in changes)
