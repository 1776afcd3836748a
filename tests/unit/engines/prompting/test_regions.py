"""An object that the networks do not know is enclosed by its borders in the images."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from lesionlens.base.labels import Region
from lesionlens.base.records.prompts import PromptRequest
from lesionlens.engines.prompting.prompts import Prompter
from lesionlens.engines.prompting.regions import enclosed_region
from lesionlens.engines.prompting.study_features import PromptStudy
from lesionlens.network.prompt.model import PromptOutput

SHAPE = (80, 70, 60)
MIDDLE = (36, 34, 30)


class Unsure(nn.Module):
    """Answers a ball around the foreground prompts with the same logit."""

    def __init__(self, logit):
        super().__init__()
        self.logit = nn.Parameter(torch.tensor(float(logit)))

    def forward(self, x, *, trace=False):
        tokens = x.maps.shape[-1] // 4
        even = torch.full((1, tokens, tokens, tokens), tokens**-3.0)
        near = x.maps[:, 10:11] > 2.0
        return PromptOutput(torch.where(near, self.logit, -self.logit), even if trace else None)


@pytest.fixture(scope="module")
def nucleus():
    """Two touching objects of different intensity in noise; the first is what is meant."""
    i, j, k = np.indices(SHAPE)
    whole = ((i - 40) / 15) ** 2 + ((j - 34) / 11) ** 2 + ((k - 30) / 10) ** 2 < 1
    first, second = whole & (i < 44), whole & (i >= 44)
    rng = np.random.default_rng(0)
    images = rng.normal(0, 0.15, (4, *SHAPE))
    images[1] += 1.2 * first - 0.8 * second
    images[3] += 0.7 * first + 1.5 * second
    images = np.stack([ndimage.gaussian_filter(one, 0.5) for one in images]).astype(np.float32)
    brain = np.zeros(SHAPE, bool)
    brain[3:-3, 3:-3, 3:-3] = True
    return PromptStudy(images * brain, brain, (True,) * 4), first, whole


def asked(foreground, background=(), outline=None, region=None):
    sides = (np.array(some, np.int64).reshape(-1, 3) for some in (foreground, background))
    return PromptRequest(*sides, outline, region)


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def answered(study, question, logit):
    return Prompter(Unsure(logit)).answer(study, question).mask_over(question.outline, SHAPE)


def test_an_unsure_answer_gives_way_to_the_border_in_the_images(nucleus):
    study, first, _ = nucleus
    assert dice(answered(study, asked([MIDDLE]), 1.0), first) > 0.9


@pytest.mark.parametrize("case", ["sure", "named", "flagged"])
def test_the_network_answers_where_it_is_sure_or_the_region_is_known(nucleus, case):
    study, first, _ = nucleus
    if case == "flagged":
        study = PromptStudy(study.images, study.brain, study.present, np.stack([first] * 3) * 0.9)
    region = Region.WT if case == "named" else None
    mask = answered(study, asked([MIDDLE], region=region), 6.0 if case == "sure" else 1.0)
    assert dice(mask, first) < 0.8


def test_further_prompts_move_the_border(nucleus):
    study, _, whole = nucleus
    start = answered(study, asked([MIDDLE]), 1.0)
    more = answered(study, asked([MIDDLE, (50, 34, 30)], outline=start), 1.0)
    assert dice(more, whole) > 0.9


def test_a_further_prompt_moves_the_border_and_nothing_else(nucleus):
    """Every other part of the outline vanished, and what a brush had taken away came back."""
    study, *_ = nucleus
    start = answered(study, asked([MIDDLE]), 1.0)
    apart, brushed = np.zeros((2, *SHAPE), bool)
    apart[34:38, 8:12, 28:32] = True
    brushed[36:39, 25:27, 29:32] = True
    assert (start & brushed).sum() > 10
    outline = start & ~brushed | apart
    more = answered(study, asked([MIDDLE, (50, 34, 30)], outline=outline), 1.0)
    alone = answered(study, asked([MIDDLE, (50, 34, 30)], outline=start), 1.0)
    np.testing.assert_array_equal(more, alone & ~brushed | apart)


def test_prompts_on_what_was_brushed_bring_it_back_and_on_another_part_take_it_away(nucleus):
    study, *_ = nucleus
    start = answered(study, asked([MIDDLE]), 1.0)
    apart, brushed = np.zeros((2, *SHAPE), bool)
    apart[34:38, 12:16, 28:32] = True
    brushed[36:39, 25:27, 29:32] = True
    outline = start & ~brushed | apart
    back = answered(study, asked([MIDDLE, (37, 26, 30)], outline=outline), 1.0)
    np.testing.assert_array_equal(back, start | apart)
    gone = answered(study, asked([MIDDLE], [(36, 14, 30)], outline), 1.0)
    np.testing.assert_array_equal(gone, start & ~brushed)


def test_without_a_border_there_is_no_region(nucleus):
    study, *_ = nucleus
    even = replace(study, images=np.random.default_rng(1).normal(size=study.images.shape))
    assert enclosed_region(even, asked([MIDDLE])) is None


def test_mirrored_images_give_the_mirrored_region(nucleus):
    study, *_ = nucleus
    box, found = enclosed_region(study, asked([MIDDLE]))
    whole = np.zeros(SHAPE, bool)
    whole[box] = found
    turned = PromptStudy(study.images[:, ::-1].copy(), study.brain[::-1].copy(), study.present)
    box, found = enclosed_region(turned, asked([(SHAPE[0] - 1 - MIDDLE[0], *MIDDLE[1:])]))
    mirrored = np.zeros(SHAPE, bool)
    mirrored[box] = found
    assert dice(mirrored[::-1], whole) > 0.99
