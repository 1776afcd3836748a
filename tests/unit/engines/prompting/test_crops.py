"""Which part of a study the prompt network is shown."""

import numpy as np
import pytest

from lesionlens.base.labels import Region
from lesionlens.base.records.prompts import PromptRequest
from lesionlens.engines.prompting import prompts
from lesionlens.engines.prompting.study_features import PromptStudy
from lesionlens.network.prompt.crop import Crop

SHAPE = (220, 100, 100)
NONE = np.zeros((0, 3), np.int64)


def study_with(*lesions):
    """A study whose analysis flags boxes as whole tumour, and of each the first half as core."""
    probability = np.zeros((3, *SHAPE), np.float32)
    for low, high in lesions:
        i, j, k = (slice(a, b) for a, b in zip(low, high, strict=True))
        probability[0, i, j, k] = 0.9
        probability[1, i.start : (i.start + i.stop) // 2, j, k] = 0.9
    images = np.zeros((4, *SHAPE), np.float32)
    known = probability if lesions else None
    return PromptStudy(images, np.ones(SHAPE, bool), (True,) * 4, known)


def request_at(*points, region=None):
    return PromptRequest(np.array(points).reshape(-1, 3), NONE, None, region)


@pytest.mark.parametrize(
    ("points", "centre", "spacing"),
    [
        ([(30, 31, 32)], (30, 31, 32), 1.25),
        ([(30, 31, 32), (142, 31, 32)], (86, 31, 32), 2.0),
        ([(10, 31, 32), (210, 31, 32)], (110, 31, 32), 3.0),
    ],
)
def test_a_first_crop_holds_the_prompts_and_eight_millimetres_around(points, centre, spacing):
    """64 voxels, of 1.25 mm unless the prompts lie farther apart, and of 3 mm at most."""
    for lesions in ((), [((200, 80, 80), (210, 90, 90))]):
        crop = prompts._crop_for(study_with(*lesions), request_at(*points))
        assert crop.size == 64
        np.testing.assert_allclose(crop.centre, centre)
        np.testing.assert_allclose(crop.step, spacing * np.eye(3))


@pytest.mark.parametrize(
    ("region", "middle", "edge"), [(None, 69.5, 99), (Region.WT, 69.5, 99), (Region.TC, 44.5, 49)]
)
def test_a_first_crop_holds_the_flagged_object_at_the_prompt(region, middle, edge):
    study = study_with(((20, 20, 20), (120, 40, 40)), ((180, 80, 80), (200, 90, 90)))
    crop = prompts._crop_for(study, request_at((30, 30, 30), region=region))
    np.testing.assert_allclose(crop.centre, (middle, 29.5, 29.5))
    np.testing.assert_allclose(crop.step, max(1.0, 1.3 * edge / 64) * np.eye(3))
    beside = prompts._crop_for(study, request_at((30, 30, 30), (30, 30, 50), region=region))
    np.testing.assert_allclose(beside.centre, (middle, 29.5, 35))


def mask_in(low, high, shape=(64, 64, 64)):
    out = np.zeros(shape, np.float32)
    out[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = 0.9
    return out


BOX = (slice(10, 74), slice(20, 84), slice(30, 94))


@pytest.mark.parametrize(
    ("low", "high", "spacing", "expected"),
    [
        ((0, 20, 20), (40, 40, 40), 2.0, 3.0),  # cut off at a face
        ((24, 20, 20), (64, 40, 40), 1.25, 1.875),
        ((0, 20, 20), (40, 40, 40), 3.0, 1.0),  # none is wider
        ((0, 20, 20), (40, 22, 22), 2.0, 1.0),  # a face of 4 voxels is no cut
        ((5, 20, 20), (36, 40, 40), 1.25, 1.0),
        ((5, 20, 20), (36, 40, 40), 1.2, None),  # hardly finer
        ((5, 20, 20), (62, 40, 40), 1.25, None),
    ],
)
def test_a_crop_is_widened_where_a_response_is_cut_off_and_narrowed_where_it_is_small(
    low, high, spacing, expected
):
    probability = mask_in(low, high)
    probability[50:, 55:, 55:] = 0.9  # not at the prompt
    crop = Crop.straight(np.array([41.5, 51.5, 61.5]), spacing, 64)
    prompt = np.array([[40, 41, 51]])
    found = prompts._better_crop(probability, BOX, crop, prompt)
    if expected is None:
        assert found is None
        return
    np.testing.assert_allclose(found.step, expected * np.eye(3))
    middle = (np.array(low) + np.array(high) - 1) / 2 + np.array((10, 20, 30))
    np.testing.assert_allclose(found.centre, middle)
    assert found.size == 64
    assert prompts._better_crop(0 * probability, BOX, crop, prompt) is None


def test_prompts_within_sixteen_millimetres_of_the_first_share_a_crop():
    outline = np.zeros(SHAPE, bool)
    outline[100] = True
    foreground = np.array([(10, 20, 20), (26, 36, 4), (27, 20, 20), (40, 20, 20), (100, 20, 20)])
    background = np.array([(100, 30, 30), (10, 22, 22)])
    request = PromptRequest(foreground, background, outline, None)
    groups = [group.tolist() for group in prompts._groups(request, outline)]
    assert groups == [
        [[10, 20, 20], [26, 36, 4]],
        [[27, 20, 20], [40, 20, 20]],
        [[100, 30, 30]],
    ]
