"""Which earlier prompts hold for the next one."""

import numpy as np
import pytest

from lesionlens.analysis.findings.prompt_response import valid_prompts
from lesionlens.base.labels import PromptKind, Region
from lesionlens.base.records.prompts import PromptRound

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
