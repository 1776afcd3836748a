"""Which earlier prompts hold for the next one, and what a response may add."""

import numpy as np
import pytest

from lesionlens.analysis.findings.prompt_response import redrawn, valid_prompts
from lesionlens.base.labels import PromptKind, Region
from lesionlens.base.records.prompts import PromptResponse, PromptRound

OUTSIDE, CORE, OEDEMA, ENHANCING = ((n, 0, 0) for n in range(4))
LABELS = np.array([0, 1, 2, 3], np.uint8).reshape(4, 1, 1)


def asked(region, foreground=(), background=()):
    return PromptRound(PromptKind.POINT, foreground, background, region, 2, 1.0)


@pytest.mark.parametrize(
    ("region", "foreground", "background"),
    [
        (None, (ENHANCING,), (OUTSIDE,)),
        (Region.WT, (ENHANCING,), (OUTSIDE,)),
        (Region.TC, (ENHANCING,), (OUTSIDE,)),
        (Region.ET, (ENHANCING,), (CORE, OUTSIDE)),
    ],
)
def test_an_enhancing_voxel_is_tumour_and_what_is_no_tumour_does_not_enhance(
    region, foreground, background
):
    rounds = [asked(Region.ET, (ENHANCING,), (CORE,)), asked(None, (OEDEMA,), (OUTSIDE,))]
    found = valid_prompts(rounds, LABELS, region)
    without = tuple(at for at in found[0] if at != OEDEMA)
    assert (without, found[1]) == (foreground, background)
    assert (OEDEMA in found[0]) == (region is None)


def test_what_the_outline_contradicts_was_changed_since():
    rounds = [asked(Region.WT, (OUTSIDE, CORE), (OEDEMA,)), asked(Region.WT, (OUTSIDE, CORE))]
    assert valid_prompts(rounds[:1], LABELS, Region.WT) == ((CORE,), ())
    assert valid_prompts(rounds, LABELS, Region.WT) == ((CORE,), ())
    assert valid_prompts([], LABELS, None) == ((), ())


def test_prompts_of_a_region_are_found_again_after_those_of_another():
    rounds = [asked(Region.ET, (ENHANCING,), (CORE,)), asked(Region.WT, (OEDEMA,))]
    assert valid_prompts(rounds, LABELS, Region.ET) == ((ENHANCING,), (CORE,))


def test_the_last_of_two_prompts_that_contradict_each_other_counts():
    rounds = [asked(None, (OEDEMA,)), asked(None, (), (ENHANCING,))]
    assert valid_prompts(rounds[:1], LABELS, None, rounds[1]) == ((), (ENHANCING,))
    assert valid_prompts(rounds, LABELS, None) == ((), ())


@pytest.mark.parametrize("held", ["outline", "prompt"])
def test_nothing_is_added_behind_another_candidate(held):
    """A rim on the far side of the other one became part of this outline, as islands."""
    labels, free = np.zeros((20, 5, 5), np.uint8), np.ones((20, 5, 5), bool)
    free[6:10] = False  # another candidate
    lesion = np.zeros(labels.shape, np.float32)
    lesion[1:13, 1:4, 1:4] = 1  # on both sides of it
    lesion[16:18, 1:4, 1:4] = 1  # a part that no other candidate connects
    if held == "outline":
        labels[2:4, 2, 2] = 2
    prompts = asked(None, ((3, 2, 2),) if held == "prompt" else ())
    box = (slice(1, 20), slice(0, 5), slice(0, 5))
    found = lesion[box]
    response = PromptResponse(box, found, found, np.zeros(found.shape, bool))
    drawn = redrawn(labels, response, prompts, free, np.zeros(found.shape, np.uint8)) > 0
    expected = lesion > 0
    expected[6:13] = False
    np.testing.assert_array_equal(drawn, expected)
