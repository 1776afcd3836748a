"""What the network for small objects answers, and what it leaves to the general one."""

import numpy as np
import pytest
import torch
from torch import nn

from lesionlens.base.labels import Region
from lesionlens.base.records.prompts import PromptRequest
from lesionlens.engines.prompting.prompts import Prompter
from lesionlens.engines.prompting.study_features import PromptStudy
from lesionlens.network.prompt.model import PromptOutput

SHAPE = (72, 70, 68)
SMALL, LARGE = (slice(10, 18),) * 3, (slice(30, 62),) * 3
IN_SMALL, IN_LARGE = (13, 13, 13), (46, 46, 46)


class Brightness(nn.Module):
    """Answers what is bright, as sure as it is told to be."""

    def __init__(self, logit):
        super().__init__()
        self.logit = nn.Parameter(torch.tensor(float(logit)))
        self.asked = 0

    def forward(self, x, *, trace=False):
        self.asked += 1
        tokens = x.maps.shape[-1] // 4
        even = torch.full((1, tokens, tokens, tokens), tokens**-3.0)
        return PromptOutput(self.logit * (2 * x.maps[:, 3:4] - 1), even if trace else None)


@pytest.fixture
def study():
    images = np.zeros((4, *SHAPE), np.float32)
    images[3][SMALL] = images[3][LARGE] = 1.0
    return PromptStudy(images, np.ones(SHAPE, bool), (False, False, False, True))


def asked_of(*foreground, background=(), outline=None, region=None):
    return PromptRequest(
        np.array(foreground, np.int64).reshape(-1, 3),
        np.array(background, np.int64).reshape(-1, 3),
        outline,
        region,
    )


def drawn(*boxes):
    out = np.zeros(SHAPE, bool)
    for box in boxes:
        out[box] = True
    return out


def asked_both(study, asked, *, logit=6.0):
    """Return the mask, and how often the general and the other network were asked."""
    general, small = Brightness(6.0), Brightness(logit)
    found = Prompter(general, small).answer(study, asked)
    return found.mask_over(asked.outline, SHAPE), general.asked, small.asked


def test_a_small_object_is_outlined_by_one_pass_of_its_network(study):
    mask, general, small = asked_both(study, asked_of(IN_SMALL))
    assert (general, small) == (0, 1)
    assert np.array_equal(mask, drawn(SMALL))


@pytest.mark.parametrize("at", [IN_LARGE, (31, 31, 31)])
def test_an_object_that_the_crop_cuts_off_is_left_to_the_general_network(study, at):
    mask, general, small = asked_both(study, asked_of(at))
    assert small == 1
    assert general >= 1
    assert np.array_equal(mask, drawn(LARGE))


def test_an_unsure_answer_is_left_to_the_general_network(study):
    assert asked_both(study, asked_of(IN_SMALL), logit=1.0)[1] >= 1
    assert asked_both(study, asked_of(IN_SMALL), logit=3.0)[1] == 0


def analysed(study, *flagged):
    """Return the study after an analysis that flags these boxes."""
    chances = np.where(drawn(*flagged), 0.9, 0.01).astype(np.float32)
    return PromptStudy(study.images, study.brain, study.present, np.stack([chances] * 3))


def test_a_region_of_what_is_flagged_and_distant_prompts_are_for_the_general_network(study):
    named = asked_of(IN_SMALL, region=Region.WT)
    assert asked_both(analysed(study, SMALL), named)[2] == 0
    assert asked_both(study, asked_of(IN_SMALL, IN_LARGE))[2] == 0


@pytest.mark.parametrize("at", [IN_SMALL, IN_LARGE])
@pytest.mark.parametrize("region", [None, *Region])
def test_what_the_analysis_missed_is_outlined_whatever_region_is_named(study, at, region):
    """The analysis denied the lesion that was pointed at, and outweighed the prompt."""
    mask, _, small = asked_both(analysed(study), asked_of(at, region=region))
    assert small == 1
    assert np.array_equal(mask, drawn(SMALL if at == IN_SMALL else LARGE))


def test_an_outline_changes_only_in_the_direction_of_the_prompts(study):
    half = drawn((slice(10, 14), *SMALL[1:]), (slice(20, 22),) * 3)
    more, general, _ = asked_both(study, asked_of((16, 13, 13), outline=half))
    assert general == 0
    assert np.array_equal(more, half | drawn(SMALL))
    less, general, _ = asked_both(
        study, asked_of(IN_SMALL, background=[(20, 20, 20)], outline=half)
    )
    assert general == 0
    assert np.array_equal(less, half & drawn(SMALL))


def test_a_large_outline_is_corrected_by_the_general_network(study):
    _, general, small = asked_both(
        study, asked_of((33, 33, 33), outline=drawn((slice(34, 62),) * 3))
    )
    assert (general, small) == (1, 0)


def test_prompts_are_binding(study):
    mask, _, _ = asked_both(study, asked_of((18, 13, 13), background=[(12, 12, 12)]))
    assert mask[18, 13, 13]
    assert not mask[12, 12, 12]
