"""Strong shading by a surface coil is taken out, weak shading and lesions are left alone."""

from __future__ import annotations

from itertools import pairwise

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


def test_an_absent_sequence_stays_absent(head):
    assert shading_of({MrSequence.T1: np.zeros(SHAPE, np.float32)}, head[1]) == {}


def test_what_is_taken_out_rises_gradually(head):
    image, brain = head
    left = []
    for ratio in np.linspace(1.4, 4.5, 12):
        shaded = image * _slope(ratio)
        even, found = _even(shaded, brain)
        change = float(np.abs(even - shaded)[brain].mean() / shaded[brain].mean())
        left.append((found.linear_strength, change))
    strengths, changes = zip(*sorted(left), strict=True)
    assert strengths[0] < STRONG_LINEAR[0] < STRONG_LINEAR[1] < strengths[-1]
    assert all(b >= a - 1e-3 for a, b in pairwise(changes))
    assert any(0 < change < 0.5 * changes[-1] for change in changes)


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


def test_contrasts_that_cancel_each_other_are_no_common_field(head):
    image, brain = head
    bright_rim, dark_rim = image * _rim(2.7), image * _rim(1 / 2.7)
    images = dict(zip(MrSequence, (dark_rim, dark_rim, bright_rim, bright_rim), strict=True))
    for shading in shading_of(images, brain).values():
        assert shading.field is None
        assert shading.common_strength is None


@pytest.mark.parametrize("count", [2, 3])
def test_a_field_of_some_sequences_is_not_removed_from_the_others(head, count):
    image, brain = head
    shaded = list(MrSequence)[:count]
    images = {s: image * _rim(6.0) if s in shaded else image for s in MrSequence}
    found = shading_of(images, brain)
    for sequence, shading in found.items():
        assert (shading.field is not None) is (sequence in shaded)
        assert shading.common_strength is None
        even = remove_shading(images[sequence], shading)
        assert shading_of({sequence: even}, brain)[sequence].strength < 1.5
    assert found[shaded[0]].ratio > 4


def test_a_strong_field_of_one_sequence_comes_on_top_of_the_common_one(head):
    image, brain = head
    images = {s: image * _rim(2.9) for s in MrSequence} | {MrSequence.FLAIR: image * _rim(12.0)}
    found = shading_of(images, brain)
    even = {s: remove_shading(images[s], shading) for s, shading in found.items()}
    assert found[MrSequence.FLAIR].common_strength == found[MrSequence.T1].common_strength
    left = [shading_of({s: values}, brain)[s].strength for s, values in even.items()]
    assert max(left) < STRONG[0]
    alone = shading_of({MrSequence.FLAIR: images[MrSequence.FLAIR]}, brain)[MrSequence.FLAIR]
    reported = found[MrSequence.FLAIR]
    assert reported.ratio == pytest.approx(alone.strength, rel=0.1)
    assert reported.corrected_fraction < found[MrSequence.T1].corrected_fraction == 1


def test_what_a_partial_common_correction_leaves_is_reported_once(head):
    """A field of 6.3 to 1 was reported as 11 to 1, 77% of it removed."""
    image, brain = head
    images = {s: image * _rim(1.5) for s in MrSequence} | {MrSequence.FLAIR: image * _rim(7.5)}
    found = shading_of(images, brain)
    reported = found[MrSequence.FLAIR]
    assert 0 < found[MrSequence.T1].corrected_fraction == reported.common_fraction < 0.5
    alone = shading_of({MrSequence.FLAIR: images[MrSequence.FLAIR]}, brain)[MrSequence.FLAIR]
    assert reported.ratio == pytest.approx(alone.ratio, rel=0.1)
    low, high = np.percentile(reported.field[brain], (2, 98))
    removed = reported.ratio**reported.corrected_fraction
    assert removed == pytest.approx(np.exp(high - low), rel=0.05)


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
