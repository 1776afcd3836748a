"""Tools of the outline do the same whichever way the axes run, and stay in tissue."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lesionlens.analysis.findings import edit_tools
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import Label
from lesionlens.testing import make_patient

SPACING = np.array([1.0, 1.5, 2.0])
SHAPE = (36, 26, 20)


def far_from(centre_mm, shape=SHAPE, spacing=SPACING):
    grid = np.moveaxis(np.indices(shape), 0, -1) * spacing
    return np.sqrt(((grid - np.asarray(centre_mm)) ** 2).sum(-1))


def ball(centre_mm=(18, 18, 20), radius=9.0, label=Label.OEDEMA):
    return np.where(far_from(centre_mm) <= radius, np.uint8(label), np.uint8(0))


def nested():
    labels = ball()
    labels[far_from((18, 18, 20)) <= 6] = Label.CORE
    labels[far_from((18, 18, 20)) <= 3] = Label.ENHANCING
    return labels


EVERYWHERE = np.ones(SHAPE, bool)
TOOLS = {
    "smooth": lambda x, s, ok, axis: edit_tools.smoothed(x, s, ok),
    "holes": lambda x, s, ok, axis: edit_tools.without_holes(x, Label.CORE, ok),
    "islands": lambda x, s, ok, axis: edit_tools.without_islands(x),
    "slices": lambda x, s, ok, axis: edit_tools.interpolated(x, axis, s, ok),
}


@st.composite
def drawings(draw):
    """A lesion with a hole, an island and missing slices; corners are those of a hand."""
    labels = nested()
    labels[far_from((18, 18, 20)) <= draw(st.floats(0, 2.5))] = 0
    labels[draw(st.integers(0, 3)), 2, 2] = Label.ENHANCING
    gap = draw(st.integers(13, 16))
    labels[gap : gap + draw(st.integers(0, 3))] = 0
    rough = np.random.default_rng(draw(st.integers(0, 9))).random(SHAPE) < 0.05
    labels[rough & (labels > 0)] = 0
    return labels


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(sorted(TOOLS)),
    drawings(),
    st.permutations((0, 1, 2)),
    st.tuples(*[st.booleans()] * 3),
)
def test_every_tool_turns_with_the_grid_and_paints_no_air(tool, labels, order, flips):
    allowed = EVERYWHERE.copy()
    allowed[:, :9] = False
    labels[~allowed] = 0
    axes = tuple(axis for axis, flip in enumerate(flips) if flip)

    def turned(data):
        return np.ascontiguousarray(np.flip(np.transpose(data, order), axes))

    act = TOOLS[tool]
    before = labels.copy()
    straight = act(labels, SPACING, allowed, 0)
    np.testing.assert_array_equal(labels, before)  # undo has them
    other = act(turned(labels), SPACING[list(order)], turned(allowed), list(order).index(0))
    assert np.count_nonzero(other != turned(straight)) <= 3  # sums in another order round otherwise
    assert not straight[~allowed].any()
    assert straight.dtype == np.uint8


def test_smoothing_takes_corners_and_leaves_size_and_parts():
    labels = nested()
    rough = labels.copy()
    rough[np.random.default_rng(1).random(SHAPE) < 0.05] = 0
    rough[4, 4, 4] = Label.CORE
    found = edit_tools.smoothed(rough, SPACING, EVERYWHERE)
    assert found[4, 4, 4] == 0
    assert np.count_nonzero(found) == pytest.approx(np.count_nonzero(labels), rel=0.06)
    assert set(np.unique(found)) == set(np.unique(labels))
    again = edit_tools.smoothed(found, SPACING, EVERYWHERE)
    assert np.count_nonzero(again != found) < np.count_nonzero(found != rough)


def test_holes_are_filled_and_nothing_else_changes():
    labels = ball()
    labels[17:20, 11:13, 9:11] = 0
    found = edit_tools.without_holes(labels, Label.CORE, EVERYWHERE)
    assert (found[17:20, 11:13, 9:11] == Label.CORE).all()
    np.testing.assert_array_equal(found > 0, ball() > 0)


def test_islands_go_and_what_is_nearly_as_large_stays():
    two = ball((10, 18, 20), 6.0) | ball((28, 18, 20), 5.0)
    with_speck = two.copy()
    with_speck[0:2, 0:2, 0:2] = Label.ENHANCING
    np.testing.assert_array_equal(edit_tools.without_islands(with_speck), two)
    corner = np.zeros(SHAPE, np.uint8)
    corner[10:20, 10:20, 10:15] = corner[20, 20, 15] = Label.CORE  # touches at a corner alone
    np.testing.assert_array_equal(edit_tools.without_islands(corner), corner)


def test_slices_left_out_are_drawn_by_their_shapes():
    labels = nested()
    sparse = labels.copy()
    kept = (10, 14, 18, 22, 26)
    sparse[[i for i in range(SHAPE[0]) if i not in kept]] = 0
    found = edit_tools.interpolated(sparse, 0, SPACING, EVERYWHERE)
    for i in kept:
        np.testing.assert_array_equal(found[i], sparse[i])
    between = labels[10:27]
    overlap = 2 * np.count_nonzero((found[10:27] > 0) & (between > 0))
    assert overlap / (np.count_nonzero(found) + np.count_nonzero(between)) > 0.9
    core = np.isin(found, (Label.CORE, Label.ENHANCING))
    assert not found[:10].any()
    assert core[16].any()


def test_two_clicks_split_at_the_waist():
    first, second = ball((12, 18, 20), 6.0), ball((23, 18, 20), 6.0)
    both = first | second
    half = edit_tools.split_between(both, (12, 12, 10), (23, 12, 10), SPACING)
    cut = far_from((23, 18, 20)) < far_from((12, 18, 20))
    wrong = np.count_nonzero(half != (cut & (both > 0)))
    assert wrong <= 0.1 * np.count_nonzero(both)
    other = edit_tools.split_between(both, (23, 12, 10), (12, 12, 10), SPACING)
    assert np.count_nonzero(half & other) <= 0.1 * np.count_nonzero(both)


def test_an_outline_without_a_waist_is_split_midway_wherever_in_it_the_clicks_are():
    """A click near the border split off its own voxel alone."""
    whole = ball((18, 18, 20), 12.0)
    places = np.argwhere(whole > 0)
    tip, deep = places[places[:, 0].argmin()], (18, 12, 10)
    for one, other in ((tip, deep), (deep, tip)):
        half = edit_tools.split_between(whole, tuple(one), tuple(other), SPACING)
        assert 0.1 < np.count_nonzero(half) / len(places) < 0.9
        assert half[tuple(other)]
        assert not half[tuple(one)]
    both = ball((10, 18, 20)) | ball((26, 18, 20))
    edge = np.argwhere(both > 0)
    ends = tuple(edge[edge[:, 0].argmin()]), tuple(edge[edge[:, 0].argmax()])
    half = edit_tools.split_between(both, *ends, SPACING)  # at the waist, from clicks at the ends
    assert 0.4 < np.count_nonzero(half) / len(edge) < 0.6


def test_a_plane_splits_and_a_cut_beside_it_is_refused():
    labels, upwards = ball(), np.array([0.0, 0.0, 1.0])
    half = edit_tools.split_at(labels, (3, 4, 10), upwards, SPACING)
    assert not half[:, :, :10].any()
    np.testing.assert_array_equal(half[:, :, 10:], labels[:, :, 10:] > 0)
    for place in (0, 19):
        with pytest.raises(UnusableInputError, match="half"):
            edit_tools.split_at(labels, (18, 12, place), upwards, SPACING)
    with pytest.raises(UnusableInputError, match="same position"):
        edit_tools.split_between(labels, (18, 12, 10), (18, 12, 10), SPACING)


def test_air_is_what_no_sequence_shows():
    patient = make_patient(5, spacing_mm=6.0)
    images = {sequence: image.data for sequence, image in patient.sequences.items()}
    brain = patient.brain.data
    prepared = SimpleNamespace(images=images, brain=brain)
    given_brain, others = brain.copy(), brain & (np.indices(brain.shape)[0] < 20)
    tissue = edit_tools.editable_tissue(prepared, np.zeros(brain.shape, bool))
    np.testing.assert_array_equal(brain, given_brain)
    np.testing.assert_array_equal(edit_tools.editable_tissue(prepared, others), tissue & ~others)
    assert (tissue | ~brain).all()
    assert not tissue[0].any()
    assert not tissue[:, :, -1].any()


def test_an_outline_that_was_erased_is_neither_smoothed_nor_split():
    nothing = np.zeros((20, 20, 20), np.uint8)
    smooth = edit_tools.smoothed(nothing, SPACING, np.ones(nothing.shape, bool))
    assert not smooth.any()
    with pytest.raises(UnusableInputError, match="an empty outline"):
        edit_tools.split_between(nothing, (1, 2, 3), (4, 5, 6), SPACING)
