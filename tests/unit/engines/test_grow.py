"""A region grows where the reader points: in millimetres, and it ends."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import Label, MrSequence, Region
from lesionlens.engines.grow import REACH_MM, Surroundings, grown

CENTRE = np.array([3.0, -2.0, 4.0])
EXTENT = 38.0


def scene(spacing, radius=8.0, contrast=60.0, seen=0.0):
    """A ball in noise, which the network saw with a low probability or not at all."""
    spacing = np.asarray(spacing, float)
    half = np.ceil(EXTENT / spacing).astype(int)
    axes = [np.arange(-n, n + 1) * e for n, e in zip(half, spacing, strict=True)]
    grids = np.meshgrid(*axes, indexing="ij")
    far = np.sqrt(sum((g - c) ** 2 for g, c in zip(grids, CENTRE, strict=True)))
    inside = far <= radius
    noise = np.random.default_rng(3).normal(0, 5, inside.shape)
    image = (300 + contrast * inside + noise).astype(np.float32)
    whole = (seen * np.clip(1.5 - far / radius, 0, 1)).astype(np.float32)
    allowed = np.ones(inside.shape, bool)
    around = Surroundings({MrSequence.T1C: image}, allowed, spacing, {Region.WT: whole})
    seed = tuple(int(n) for n in np.rint(CENTRE / spacing) + half)
    return around, seed, inside


def dice(a, b):
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


@pytest.mark.parametrize("spacing", [(1.5, 1.5, 1.5), (1.2, 1.2, 4.0), (5.0, 1.5, 1.0)])
@pytest.mark.parametrize(("contrast", "seen"), [(60.0, 0.0), (0.0, 0.15), (-60.0, 0.1)])
def test_what_was_missed_is_found_from_intensity_or_faint_probability(spacing, contrast, seen):
    around, seed, truth = scene(spacing, contrast=contrast, seen=seen)
    labels = grown(around, seed)
    assert dice(labels > 0, truth) > 0.75
    volume = np.count_nonzero(labels) * np.prod(spacing)
    assert volume == pytest.approx(4 / 3 * np.pi * 8.0**3, rel=0.4)
    bright = contrast > 0
    assert set(np.unique(labels)) == {0, Label.ENHANCING if bright else Label.OEDEMA}


@settings(max_examples=6, deadline=None)
@given(st.permutations((0, 1, 2)), st.tuples(*[st.booleans()] * 3))
def test_axes_in_any_order_and_direction_give_the_same_region(order, flips):
    around, seed, _ = scene((2.0, 1.5, 4.0))
    straight = grown(around, seed)
    axes = tuple(axis for axis, flip in enumerate(flips) if flip)

    def turned(data):
        return np.ascontiguousarray(np.flip(np.transpose(data, order), axes))

    shape = [around.allowed.shape[axis] for axis in order]
    at = [seed[axis] for axis in order]
    at = tuple(n - 1 - i if flip else i for n, i, flip in zip(shape, at, flips, strict=True))
    other = Surroundings(
        {key: turned(image) for key, image in around.images.items()},
        turned(around.allowed),
        around.spacing_mm[list(order)],
        {key: turned(p) for key, p in around.probability.items()},
    )
    different = np.count_nonzero(grown(other, at) != turned(straight))
    assert different <= 1e-3 * np.count_nonzero(straight)  # sums in another order round otherwise


@settings(max_examples=6, deadline=None)
@given(st.floats(4.0, 14.0), st.floats(25.0, 80.0))
def test_it_never_leaves_its_bounds(radius, contrast):
    around, seed, _ = scene((2.0, 2.0, 2.0), radius=radius, contrast=contrast)
    around.allowed[:, : seed[1] - 2] = False
    labels = grown(around, seed)
    assert not labels[~around.allowed].any()
    gap = (np.argwhere(labels) - seed) * around.spacing_mm
    assert np.linalg.norm(gap, axis=1).max() <= REACH_MM
    assert labels[seed]


def test_the_parts_within_follow_the_network():
    around, seed, truth = scene((1.5, 1.5, 1.5), contrast=-60.0, seen=0.4)
    inner = np.where(truth, np.float32(0.2), np.float32(0))
    inner[: seed[0]] = 0
    parts = {**around.probability, Region.TC: inner, Region.ET: inner * np.float32(0.1)}
    labels = grown(Surroundings(around.images, around.allowed, around.spacing_mm, parts), seed)
    assert labels[seed[0] - 2, seed[1], seed[2]] == Label.OEDEMA
    assert labels[seed[0] + 2, seed[1], seed[2]] == Label.CORE
    parts[Region.ET] = inner
    labels = grown(Surroundings(around.images, around.allowed, around.spacing_mm, parts), seed)
    assert labels[seed[0] + 2, seed[1], seed[2]] == Label.ENHANCING


def test_where_nothing_stands_out_it_is_refused():
    around, seed, _ = scene((2, 2, 2), contrast=0.0)
    with pytest.raises(UnusableInputError, match="no visible contrast"):
        grown(around, seed)


def test_what_has_no_border_within_reach_is_refused():
    around, seed, _ = scene((2, 2, 2), contrast=0.0)
    endless = np.full(around.allowed.shape, 0.3, np.float32)
    around = Surroundings(around.images, around.allowed, around.spacing_mm, {Region.WT: endless})
    with pytest.raises(UnusableInputError, match="no border"):
        grown(around, seed)


def test_the_sequence_shown_goes_first_and_another_where_it_shows_no_border():
    around, seed, truth = scene((2, 2, 2))
    ball = around.images[MrSequence.T1C]
    far = np.linalg.norm(np.moveaxis(np.indices(truth.shape), 0, -1) - np.array(seed), axis=-1)
    wide = np.where(far * 2 <= 13.0, np.float32(900), ball)
    endless = np.where(np.arange(truth.shape[0])[:, None, None] >= seed[0] - 3, 900, ball)

    def of(other, shown):
        images = {MrSequence.T1C: ball, MrSequence.FLAIR: other.astype(np.float32)}
        here = Surroundings(images, around.allowed, around.spacing_mm, {}, None, shown)
        return np.count_nonzero(grown(here, seed))

    assert of(wide, MrSequence.FLAIR) > 2 * of(wide, MrSequence.T1C)
    assert of(endless, MrSequence.FLAIR) == of(wide, MrSequence.T1C)


def test_air_and_places_outside_are_refused():
    around, seed, _ = scene((2, 2, 2))
    around.allowed[seed] = False
    for place in (seed, (-1, 0, 0), (0, 0, 9999)):
        with pytest.raises(UnusableInputError, match="outside"):
            grown(around, place)
