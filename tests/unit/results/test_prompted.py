"""Prompts on a native grid of thick, turned slices, and an outline to start from."""

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from tests.helpers.storage_order import grid_stored, orders, stored

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.geometry import clipped_box, index_map
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.prompts import PromptResponse, Prompts
from lesionlens.base.records.study import PreparedStudy
from lesionlens.results.prompted import segment_prompts

WORKING, NATIVE = (40, 44, 36), (44, 40, 9)


@pytest.fixture
def prepared():
    """Native slices of 4 mm whose first two axes are swapped against the working grid of 1 mm."""
    to_native = np.array([[0, 1.0, 0, 0], [1.0, 0, 0, 0], [0, 0, 0.25, 0], [0, 0, 0, 1]])
    brain = np.zeros(WORKING, bool)
    brain[2:-2, 2:-2, 2:-2] = True
    native = Grid(NATIVE, np.diag([1.0, 1.0, 4.0, 1.0]))
    channels = np.zeros((4, *WORKING), np.float32)
    present = np.array([False, False, False, True])
    working = Grid(WORKING, native.affine @ to_native)
    return PreparedStudy(channels, present, brain, working, native, to_native, MrSequence.FLAIR)


def cube_round(question):
    """Answer a cube round the last prompt for, in a larger box whose rest is settled."""
    at = question.foreground[-1]
    free, attention = np.zeros(WORKING, bool), np.zeros(WORKING, np.float32)
    free[tuple(slice(max(0, v - 6), v + 7) for v in at)] = True
    attention[tuple(at)] = 1.0
    outline = np.zeros(WORKING, bool) if question.outline is None else question.outline
    probability = np.where(free, 1.0, outline).astype(np.float32)
    box = clipped_box(at - 9, at + 9, WORKING)
    return PromptResponse(box, probability[box], attention[box], ~free[box])


positions = st.tuples(*[st.integers(0, n - 1) for n in NATIVE])


@st.composite
def prompts_of_every_kind(draw):
    """Points, scribbles, a box and a lasso, each of any number of voxels, even ones included."""
    side = st.booleans()
    across, slice_ = draw(st.integers(0, 2)), draw(positions)
    corners = [list(at) for at in draw(st.lists(positions, min_size=3, max_size=6, unique=True))]
    for at in corners:
        at[across] = slice_[across]
    closed = draw(side) and len(set(map(tuple, corners))) > 2
    return Prompts.of(
        draw(st.lists(st.tuples(positions, side), max_size=3)),
        draw(st.lists(st.tuples(st.lists(positions, min_size=1, max_size=5), side), max_size=2)),
        draw(st.none() | st.tuples(positions, positions)),
        corners if closed else (),
    )


def striped_round(question):
    """Answer foreground prompts and their neighbours, some of them half certain."""
    probability = np.zeros(WORKING, np.float32)
    for n, at in enumerate(question.foreground):
        probability[tuple(slice(max(0, v - 4), max(0, v + 5)) for v in at)] = 0.5 + n % 5 / 10
    whole = clipped_box(np.zeros(3), np.array(WORKING), WORKING)
    return PromptResponse(whole, probability, probability, np.zeros(WORKING, bool))


@settings(max_examples=80, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(asked=prompts_of_every_kind(), order=orders(), shift=st.sampled_from((0.0, 0.5, 0.3)))
def test_prompts_are_the_same_however_the_scan_is_stored(asked, order, shift):
    """An even number of voxels has no middle one, a lasso is thinned out, and with half a voxel
    between the grids every prompt lies midway between two working voxels.
    """
    affine, place = np.diag([-1.1, 0.9, 4.0, 1.0]), np.eye(4)
    affine[:3, 3], place[:3, 3] = (71.337, -33.123, 12.071), shift
    native = Grid(NATIVE, affine)
    working = Grid(WORKING, native.affine @ np.diag([-1.0, 1, 0.25, 1]) @ place)
    channels, brain = np.zeros((4, *WORKING), np.float32), np.ones(WORKING, bool)
    results, requests = [], []

    def answer(question):
        requests.append(question)
        return striped_round(question)

    for grid in (native, grid_stored(native, order)):
        to_native = index_map(working.affine, grid.affine)
        prepared = PreparedStudy(
            channels, brain[0, 0, :4], brain, working, grid, to_native, MrSequence.FLAIR
        )
        here = index_map(native.affine, grid.affine)
        prompts = asked.moved(here)
        results.append(segment_prompts(prompts, prepared, answer).data)
    first, second = requests
    assert first.foreground.tolist() == second.foreground.tolist()
    assert first.background.tolist() == second.background.tolist()
    assert np.array_equal(stored(results[0], order), results[1])


def test_a_prompt_on_the_native_grid_is_answered_there(prepared):
    found = segment_prompts(Prompts.of([((20, 10, 4), True)]), prepared, cube_round)
    assert found.data.shape == NATIVE
    assert found.mask[20, 10, 4]
    assert found.mask[26, 16, 4]
    assert not found.mask[10, 20, 4]
    assert np.unravel_index(found.attention.data.argmax(), NATIVE) == (20, 10, 4)


def test_a_box_says_that_its_middle_belongs_and_its_frame_does_not():
    box = Prompts.of(box=((10, 10, 4), (16, 20, 4)))
    assert box.voxels(foreground=True).tolist() == [[13, 15, 4]]
    frame = {tuple(at) for at in box.voxels(foreground=False).tolist()}
    assert frame == {(9, 9, 4), (9, 15, 4), (9, 21, 4), (13, 9, 4), (13, 21, 4),
                     (17, 9, 4), (17, 15, 4), (17, 21, 4)}  # fmt: skip


@pytest.mark.parametrize(
    "given",
    [
        {"points": [((1, 2), True)]},
        {"points": [((1.5, 2, 3), True)]},
        {"points": [((float("nan"), 2, 3), True)]},
        {"points": [(1, 2, 3)]},
        {"points": [((1, 2, 3), "no")]},
        {"points": [((1, 2, 3), True)], "region": "oedema"},
        {"scribbles": [((1, 2, 3), True)]},
        {"scribbles": [([(1, 2, 3)], 0.4)]},
        {"box": ((1, 2, 3),)},
    ],
)
def test_malformed_prompt_is_refused(given):
    with pytest.raises(UnusableInputError):
        Prompts.of(**given)


@pytest.mark.parametrize(
    ("at", "start"),
    [
        ((20, 10, 9), None),  # outside the image
        ((20, 10, 4), np.zeros(WORKING, bool)),
        ((20, 10, 4), np.full(NATIVE, 0.3)),
    ],
)
def test_prompt_or_start_that_does_not_fit_is_refused(prepared, at, start):
    with pytest.raises(UnusableInputError):
        segment_prompts(Prompts.of([(at, True)]), prepared, cube_round, start)


def test_start_at_another_place_in_the_patient_is_refused(prepared):
    """A result of a mirrored copy has the same shape; by index it lay on the wrong side."""
    point, mask = Prompts.of([((20, 10, 4), True)]), np.zeros(NATIVE, bool)
    mask[30, 30, 2] = True
    mirrored = prepared.native.affine @ np.diag([-1.0, 1.0, 1.0, 1.0])
    with pytest.raises(UnusableInputError):
        segment_prompts(point, prepared, cube_round, Volume(mask, Grid(NATIVE, mirrored)))
    found = segment_prompts(point, prepared, cube_round, Volume(mask, prepared.native))
    assert found.mask[30, 30, 2]


def test_a_start_of_labels_is_the_region_that_is_meant_without_the_cavity(prepared):
    """The resection cavity, which is no part of the tumour, came back inside the outline."""
    labels = np.zeros(prepared.native.shape, np.uint8)
    for number in range(1, 5):
        labels[28 + 2 * number, 30, 2] = number
    for region, inside in ((None, (1, 2, 3)), ("wt", (1, 2, 3)), ("tc", (1, 3)), ("et", (3,))):
        point = Prompts.of([((20, 10, 4), True)], region=region)
        mask = segment_prompts(point, prepared, cube_round, labels).mask
        assert {n for n in range(1, 5) if mask[28 + 2 * n, 30, 2]} == set(inside)
    assert segment_prompts(point, prepared, cube_round, labels * 20).mask[36, 30, 2]
    for ambiguous in (np.where(labels == 3, 0, labels), np.where(labels == 4, 4, 0)):
        with pytest.raises(UnusableInputError, match="label 4 but no 3"):
            segment_prompts(point, prepared, cube_round, ambiguous)


@pytest.mark.parametrize("across", [0, 1, 2])
def test_a_lasso_says_that_what_it_holds_belongs_and_what_is_beside_it_does_not(across):
    square = np.array([(4, 4), (4, 14), (14, 14), (14, 4)])
    line = np.insert(square, across, 7, axis=1)
    lasso = Prompts.of(lasso=line.tolist())
    assert Prompts.from_json(lasso.as_json()) == lasso
    inside = np.delete(lasso.voxels(foreground=True), across, axis=1)
    outside = np.delete(lasso.voxels(foreground=False), across, axis=1)
    assert ((inside > 5) & (inside < 13)).all()
    assert len(outside) >= 8
    assert ((outside < 4) | (outside > 14)).any(1).all()
    assert (lasso.voxels(foreground=False)[:, across] == 7).all()
