"""The rules round the network, with one that knows the truth: what is bright."""

import numpy as np
import pytest
import torch
from torch import nn

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import Region
from lesionlens.base.records.prompts import PromptRequest
from lesionlens.engines.prompting.prompts import Prompter
from lesionlens.engines.prompting.rules import DEPTHS, REACH_MM
from lesionlens.engines.prompting.study_features import PromptStudy
from lesionlens.network.prompt.model import PromptOutput

SHAPE = (60, 64, 56)
LESION, OTHER = (slice(14, 26),) * 3, (slice(40, 46),) * 3
MIDDLE, APART = (20, 20, 20), (43, 43, 43)


class Brightness(nn.Module):
    """Answers everything bright, however it is asked."""

    def __init__(self):
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(1))

    def forward(self, x, *, trace=False):
        bright = x.maps[:, 3:4]
        tokens = x.maps.shape[-1] // 4
        even = torch.full((1, tokens, tokens, tokens), tokens**-3.0)
        return PromptOutput(20 * bright - 10 + 0 * self.nothing, even if trace else None)


@pytest.fixture
def study():
    images = np.zeros((4, *SHAPE), np.float32)
    images[3][LESION] = images[3][OTHER] = 1.0
    brain = np.zeros(SHAPE, bool)
    brain[2:-2, 2:-2, 2:-2] = True
    return PromptStudy(images, brain, (False, False, False, True))


def points(*some):
    return np.array(some, np.int64).reshape(-1, 3)


def answer(study, foreground=(), background=(), outline=None, region=None):
    asked = PromptRequest(points(*foreground), points(*background), outline, region)
    return Prompter(Brightness()).answer(study, asked)


def mask_of(study, foreground=(), background=(), outline=None, region=None):
    found = answer(study, foreground, background, outline, region)
    return found.mask_over(outline, study.brain.shape)


def drawn(*boxes):
    out = np.zeros(SHAPE, bool)
    for box in boxes:
        out[box] = True
    return out


def test_from_nothing_only_what_was_pointed_at_is_outlined(study):
    mask = mask_of(study, [MIDDLE])
    assert mask[MIDDLE]
    assert not mask[APART]
    assert abs(int(mask.sum()) - 12**3) < 0.12 * 12**3


@pytest.mark.parametrize("region", list(Region))
def test_a_named_region_does_not_extend_into_a_flagged_lesion_apart_from_the_prompt(study, region):
    """At a ventricle, "wt" outlined the tumour on the other side of the midline."""
    study.images[3][22:44, 22:25, 22:25] = study.images[3][42:45, 22:44, 22:44] = 1.0
    probability = np.zeros((3, *SHAPE), np.float16)
    probability[(slice(None), *OTHER)] = 0.9
    flagged = PromptStudy(study.images, study.brain, study.present, probability)
    mask = mask_of(flagged, [MIDDLE], region=region)
    assert mask[MIDDLE]
    assert mask[30, 23, 23]
    assert not mask[OTHER].any()
    beside = (43, 36, 43)  # 4 mm from the lesion
    for at in ([beside], [MIDDLE, APART]):
        assert mask_of(flagged, at, region=region)[OTHER].all()
    assert mask_of(study, [MIDDLE], region=region)[APART]


def test_the_attention_adds_up_to_one_within_the_brain(study):
    found = answer(study, [MIDDLE])
    assert found.attention.sum() == pytest.approx(1, abs=1e-4)
    assert not found.attention[~study.brain[found.box]].any()


def test_an_outline_changes_only_where_a_prompt_contradicts_it(study):
    false = (slice(5, 9), slice(5, 9), slice(5, 9))
    outline = drawn(OTHER, false)
    found = answer(study, [MIDDLE], outline=outline)
    mask = found.mask_over(outline, SHAPE)
    assert mask[20, 20, 20]
    assert mask[16, 20, 20]
    assert mask[false].all()  # wrong, but nobody pointed at it
    assert (mask == outline)[found.box][found.settled].all()


def test_a_flat_box_about_a_deep_error_corrects_it():
    """The crop about it is a cube, which reached beyond what a correction looks at."""
    shape = (150, 150, 150)
    images, brain = np.zeros((4, *shape), np.float32), np.ones(shape, bool)
    lesion = (slice(55, 95),) * 3
    images[3][lesion] = 1.0
    flat = np.argwhere(np.ones((31, 31, 1), bool)) + np.array((60, 60, 75))
    outline = np.zeros(shape, bool)
    outline[5:10, 5:10, 5:10] = True
    asked = PromptRequest(flat, points(), outline, None)
    found = Prompter(Brightness()).answer(
        PromptStudy(images, brain, (False, False, False, True)), asked
    )
    mask = found.mask_over(outline, shape)
    assert mask[tuple(flat.T)].all()
    assert mask[75, 75, 70]
    assert mask[outline].all()
    assert found.attention.sum() == pytest.approx(1, abs=1e-3)


def test_a_prompt_against_takes_away_and_never_adds(study):
    false = (slice(28, 34),) * 3
    outline = drawn(false)
    mask = mask_of(study, background=[(31, 31, 31)], outline=outline)
    assert not mask.any()


def test_a_prompt_for_never_takes_away(study):
    outline = drawn((slice(22, 34),) * 3)
    mask = mask_of(study, [(18, 18, 18)], outline=outline)
    assert (mask & outline).sum() == outline.sum()
    assert mask.sum() > outline.sum()


@pytest.mark.parametrize("region", [Region.ET, None])
def test_nothing_changes_beyond_the_reach_of_a_prompt(study, region):
    study.images[3][6:11, 10:50, 6:11] = 1.0
    at, depth = (8, 12, 8), 2.0
    outline = drawn((slice(5, 12), slice(8, 11), slice(5, 12)))
    mask = mask_of(study, [at], outline=outline, region=region)
    far = np.linalg.norm(np.argwhere(mask & ~outline) - at, axis=1)
    reach = DEPTHS[region] * depth
    assert 0.6 * reach < far.max() <= reach < REACH_MM


@pytest.mark.parametrize("against", [False, True])
def test_a_correction_of_a_region_ends_half_way_to_a_prompt_of_the_other_sign(study, against):
    study.images[3][6:11, 10:50, 6:11] = 0.0 if against else 1.0
    long = drawn((slice(6, 11), slice(10, 50), slice(6, 11)))
    newer, older = (8, 14, 8), (8, 24, 8)
    outline = long if against else drawn((slice(6, 11), slice(8, 11), slice(6, 11)))
    signs = ([older], [newer]) if against else ([newer], [older])
    named, unnamed = (
        mask_of(study, *signs, outline=outline, region=region) for region in (Region.WT, None)
    )
    changed = [np.argwhere(mask ^ outline)[:, 1].max() for mask in (named, unnamed)]
    assert 17 <= changed[0] <= 19
    assert changed[1] > changed[0]


@pytest.mark.parametrize("length", [3, 16])
def test_a_scribble_shows_how_far_the_error_extends(study, length):
    """A point two voxels deep reaches twelve; a short line, as deep, only four times its depth."""
    study.images[3][6:11, 10:50, 6:11] = 1.0
    outline = drawn((slice(5, 6), slice(12, 48), slice(5, 12)))
    line = [(7, 20 + n, 8) for n in range(length)]
    beyond = {}
    for name, prompts in (("point", line[:1]), ("scribble", line)):
        added = mask_of(study, prompts, outline=outline) & ~outline
        at = np.argwhere(added)[:, 1]
        beyond[name] = at.max() - prompts[-1][1]
    assert 8 < beyond["point"] <= 6 * 2
    assert 4 < beyond["scribble"] <= max(4 * 2, length / 2)


@pytest.mark.parametrize(("at", "depth"), [((20, 25, 20), 1), ((20, 22, 20), 4)])
def test_a_prompt_changes_more_the_deeper_it_lies_in_the_error(study, at, depth):
    side = (slice(14, 26), slice(26, 30), slice(14, 26))  # 576 voxels beside a lesion of 1728
    mask = mask_of(study, [at], outline=drawn(side)) & ~drawn(side)
    far = np.linalg.norm(np.argwhere(drawn(LESION)) - at, axis=1)
    assert 0.8 * (far <= 6 * depth).sum() < np.count_nonzero(mask)
    assert np.count_nonzero(mask) <= 1.05 * (far <= 6 * depth).sum()


def test_a_prompt_adds_at_most_four_times_what_was_there(study):
    bar = (slice(14, 26), slice(26, 28), slice(20, 27))  # 168 voxels beside a lesion of 1728
    mask = mask_of(study, [(20, 20, 20)], outline=drawn(bar)) & ~drawn(bar)
    assert 2 * 168 < np.count_nonzero(mask) <= 4.1 * 168
    assert mask[20, 20, 20]


def test_prompts_that_an_outline_already_follows_change_nothing(study):
    outline = drawn(LESION)
    found = answer(study, [MIDDLE], [APART], outline=outline)
    assert np.array_equal(found.mask_over(outline, SHAPE), outline)
    assert found.settled.all()


def test_prompts_are_binding_even_against_the_images(study):
    outline = drawn(LESION)
    mask = mask_of(study, [(50, 12, 12)], [MIDDLE], outline=outline)
    assert mask[50, 12, 12]
    assert not mask[MIDDLE]


def test_what_is_larger_than_the_first_crop_is_seen_wider():
    images = np.zeros((4, 130, 60, 60), np.float32)
    images[3, 10:120, 20:40, 20:40] = 1.0
    brain = np.ones(images.shape[1:], bool)
    long = PromptStudy(images, brain, (False, False, False, True))
    mask = mask_of(long, [(64, 30, 30)])
    assert mask.sum() == pytest.approx((images[3] > 0).sum(), rel=0.15)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, "no prompt"),
        ({"background": [MIDDLE]}, "no foreground prompt"),
        ({"outline": drawn(LESION)}, "an outline without a prompt"),
        ({"foreground": [MIDDLE], "background": [MIDDLE]}, "both foreground and background"),
        ({"foreground": [(0, 0, 0)]}, "outside the brain"),
        ({"foreground": [(99, 0, 0)]}, "outside the brain"),
        ({"foreground": [(52, 10, 10)]}, "no visible contrast"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_words(study, asked, words):
    with pytest.raises(UnusableInputError, match=words):
        answer(study, **asked)


def test_the_same_prompts_give_the_same_voxels(study):
    one, other = (answer(study, [MIDDLE, (16, 20, 20)], [APART]) for _ in range(2))
    assert np.array_equal(one.probability, other.probability)
    assert np.array_equal(one.attention, other.attention)
