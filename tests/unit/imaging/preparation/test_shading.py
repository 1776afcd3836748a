"""Strong shading by a surface coil is taken out, weak shading and lesions are left alone."""

from __future__ import annotations

import numpy as np
import pytest

from lesionlens.base.labels import MrSequence
from lesionlens.imaging.preparation.shading import (
    COMMON,
    STRONG,
    STRONG_LINEAR,
    remove_shading,
    shading_of,
)

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


def _even(image, brain, **others):
    """Return the image without its shading, and what was found."""
    others = {MrSequence(name): other for name, other in others.items()}
    found = shading_of({MrSequence.FLAIR: image, **others}, brain)[MrSequence.FLAIR]
    return remove_shading(image, found), found


def _lesion():
    axes = np.ogrid[-1 : 1 : SHAPE[0] * 1j, -1 : 1 : SHAPE[1] * 1j, -1 : 1 : SHAPE[2] * 1j]
    x, y, z = axes
    return (x - 0.3) ** 2 + (y + 0.4) ** 2 + z**2 < 0.15


def _slope(ratio):
    """Return a coil's field that falls evenly from front to back, by a ratio within the brain."""
    along = np.linspace(1, -1, SHAPE[1])[:, None] / 0.89 / 2
    return np.broadcast_to(ratio**along, SHAPE).astype(np.float32)


def test_strong_shading_is_taken_out(head):
    image, brain = head
    shaded = image * _coil(0.7)
    even, found = _even(shaded, brain)
    assert found.strength > STRONG[1]

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
    even, found = _even(weak, brain)
    assert even is weak
    assert 1 < found.strength < STRONG[0]
    assert found.linear_strength < STRONG_LINEAR[0]


def test_a_coil_on_one_side_is_noticed_before_it_is_strong(head):
    image, brain = head
    even, found = _even(image * _slope(2.8), brain)
    assert found.strength < STRONG[0]
    assert STRONG_LINEAR[1] < found.linear_strength == pytest.approx(2.3, abs=0.1)
    left = _even(even, brain)[1]
    assert left.linear_strength < 1.15


def test_a_large_bright_lesion_is_no_shading(head):
    image, brain = head
    image[_lesion()] *= 2.5
    even, found = _even(image, brain)
    assert even is image
    assert found.strength < STRONG[0]


def test_a_lesion_of_any_sequence_does_not_bend_the_field(head):
    image, brain = head
    shaded, lesion = image * _coil(0.7), _lesion() & brain
    without = _even(shaded, brain)[0][lesion] / shaded[lesion]
    seen = shaded.copy()
    seen[lesion] *= 1.35  # hardly stands out here, clearly in another sequence
    other = image.copy()
    other[lesion] *= 3
    blind = _even(seen, brain, t2=other)[0][lesion] / seen[lesion]
    assert np.median(blind / without) > 0.97


def _rim(ratio):
    """Return the field of coils all round the head, by a ratio within the brain."""
    axes = [np.linspace(-1, 1, n) for n in SHAPE]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    return (ratio ** ((x**2 + y**2 + z**2) / 0.8)).astype(np.float32)


def test_a_field_that_four_sequences_share_is_taken_out_before_it_is_strong(head):
    image, brain = head
    images = {
        s: image * _rim(2.75) * gain for s, gain in zip(MrSequence, (1, 2, 5, 3), strict=True)
    }
    alone = shading_of({MrSequence.T1C: images[MrSequence.T1C]}, brain)[MrSequence.T1C]
    assert COMMON[0] < alone.strength < STRONG[0]
    assert alone.field is None
    for sequence, shading in shading_of(images, brain).items():
        assert shading.ratio == pytest.approx(alone.strength, rel=0.05)
        even = remove_shading(images[sequence], shading)
        assert shading_of({sequence: even}, brain)[sequence].strength < 1.2


@pytest.mark.parametrize(
    ("centre", "gain"),
    [
        ((0.4, 0.3, 0.1), 2.2),
        ((0.0, 0.7, 0.1), 0.4),
        ((-0.3, -0.3, -0.3), 0.4),  # found without each half, not without one quarter
    ],
)
def test_a_lesion_that_looks_alike_in_four_sequences_is_no_common_field(head, centre, gain):
    image, brain = head
    x, y, z = np.ogrid[tuple(slice(-1, 1, n * 1j) for n in SHAPE)]
    distance = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2
    lesion = brain & (distance < 0.3)
    assert 0.1 < lesion.sum() / brain.sum() < 0.25
    images = {s: np.where(lesion, image * gain, image) for s in MrSequence}
    for shading in shading_of(images, brain).values():
        assert shading.common_strength is None
