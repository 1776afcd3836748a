"""Prompts answered by networks that know the truth: what is bright."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import nn

from lesionlens import __version__
from lesionlens.base.errors import UnusableInputError, WeightsError
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.records.prompts import PromptRequest
from lesionlens.engines.prompt_rules import DEPTHS, MAX_REACH_MM, shifted_logits
from lesionlens.engines.prompting import Crop, Prompter, PromptStudy
from lesionlens.network import prompt_net
from lesionlens.network.prompt_net import PromptInput, PromptOutput, Question, Scene, prompt_input
from lesionlens.network.weights import FOLDER
from lesionlens.testing import prepared_head

SHAPE = (72, 70, 68)
SMALL, LARGE = (slice(10, 18),) * 3, (slice(30, 62),) * 3
IN_SMALL, IN_LARGE, NOWHERE = (13, 13, 13), (46, 46, 46), (24, 40, 24)


class Brightness(nn.Module):
    """Answers everything bright, as sure as it is told to be."""

    def __init__(self, logit=6.0):
        super().__init__()
        self.logit, self.calls = nn.Parameter(torch.tensor(float(logit))), 0

    def forward(self, x, *, trace=False):
        self.calls += 1
        tokens = x.maps.shape[-1] // 4
        even = torch.full((1, tokens, tokens, tokens), tokens**-3.0)
        return PromptOutput(self.logit * (2 * x.maps[:, 3:4] - 1), even if trace else None)


def points(*some):
    return np.array(some, np.int64).reshape(-1, 3)


def outlined(*boxes, shape=SHAPE):
    out = np.zeros(shape, bool)
    for box in boxes:
        out[box] = True
    return out


def study_of(*bright, flagged=None, shape=SHAPE):
    """A head of which FLAIR shows boxes, and an analysis that flags others."""
    images = np.zeros((4, *shape), np.float32)
    images[3] = outlined(*bright, shape=shape)
    brain = np.zeros(shape, bool)
    brain[1:-1, 1:-1, 1:-1] = True
    known = None
    if flagged is not None:
        known = np.stack([np.where(outlined(*flagged, shape=shape), 0.9, 0.01)] * 3)
    return PromptStudy(images, brain, (False, False, False, True), known)


def answer(study, foreground=(), background=(), outline=None, region=None, logit=6.0):
    """Return the response, and how often the general and the other network were called."""
    networks = Brightness(), Brightness(logit)
    request = PromptRequest(points(*foreground), points(*background), outline, region)
    response = Prompter(networks).segment(study, request)
    return response, tuple(network.calls for network in networks)


def mask_of(study, foreground=(), background=(), outline=None, region=None):
    response, _ = answer(study, foreground, background, outline, region)
    return response.mask_over(outline, study.brain.shape)


BOTH = study_of(SMALL, LARGE)


@pytest.mark.parametrize(
    ("at", "logit", "expected", "calls_general"),
    [
        (IN_SMALL, 6.0, SMALL, False),
        (IN_SMALL, 1.0, SMALL, True),  # unsure
        (IN_LARGE, 6.0, LARGE, True),
        ((31, 31, 31), 6.0, LARGE, True),  # cut off by the small crop
    ],
)
def test_first_outline_is_the_object_at_the_prompt(at, logit, expected, calls_general):
    response, (general, _) = answer(BOTH, [at], logit=logit)
    mask = response.mask_over(None, SHAPE)
    assert 2 * (mask & outlined(expected)).sum() / (mask.sum() + outlined(expected).sum()) > 0.98
    assert (general > 0) == calls_general
    assert response.attention.sum() == pytest.approx(1, abs=1e-3)
    assert not response.attention[~BOTH.brain[response.box]].any()


def test_object_larger_than_the_first_crop_is_seen_wider():
    shape, lesion = (130, 60, 60), (slice(10, 120), slice(20, 40), slice(20, 40))
    mask = mask_of(study_of(lesion, shape=shape), [(64, 30, 30)])
    assert mask.sum() == pytest.approx(outlined(lesion, shape=shape).sum(), rel=0.15)


def test_region_of_a_flagged_lesion_is_for_the_general_network():
    response, (_, small) = answer(study_of(SMALL, flagged=[SMALL]), [IN_SMALL], region=Region.WT)
    assert small == 0
    assert response.mask_over(None, SHAPE)[SMALL].all()
    _, (_, small) = answer(study_of(SMALL, flagged=[]), [IN_SMALL], region=Region.WT)
    assert small == 1


def test_parts_of_a_core_in_one_flagged_lesion_need_not_touch():
    parts = [(slice(a, a + 8), slice(20, 40), slice(20, 40)) for a in (10, 30)]
    lesion = (slice(8, 42), slice(18, 42), slice(18, 42))
    study = study_of(*parts, flagged=[lesion])
    mask = mask_of(study, [(14, 30, 30)], region=Region.TC)
    assert all(mask[part].all() for part in parts)
    assert not mask_of(study_of(*parts), [(14, 30, 30)], region=Region.TC)[parts[1]].any()


def test_outline_changes_only_where_a_prompt_contradicts_it():
    other = (slice(4, 8),) * 3
    outline = outlined((slice(34, 62),) * 3, other)
    response, _ = answer(BOTH, [(32, 32, 32)], outline=outline)
    mask = response.mask_over(outline, SHAPE)
    assert mask[31:34, 31:34, 31:34].all()
    assert mask[other].all()  # wrong, but nobody pointed at it
    assert (mask == outline)[response.box][response.settled].all()
    followed, _ = answer(BOTH, [IN_LARGE], [NOWHERE], outline=outlined(LARGE))
    assert followed.settled.all()


@pytest.mark.parametrize("is_foreground", [True, False])
def test_prompt_changes_an_outline_in_its_own_direction_only(is_foreground):
    outline = outlined((slice(36, 68),) * 3)  # shifted by six voxels
    at = [(33, 33, 33)] if is_foreground else [(65, 65, 65)]
    mask = mask_of(BOTH, at if is_foreground else (), () if is_foreground else at, outline)
    added, removed = mask & ~outline, outline & ~mask
    assert added.any() == is_foreground
    assert removed.any() != is_foreground


def test_small_outline_is_completed_by_one_prompt():
    half = outlined((slice(10, 14), *SMALL[1:]), (slice(20, 22),) * 3)
    assert np.array_equal(mask_of(BOTH, [(16, 13, 13)], outline=half), half | outlined(SMALL))
    less = mask_of(BOTH, [IN_SMALL], [(20, 20, 20)], half)
    assert np.array_equal(less, half & outlined(SMALL))


@pytest.mark.parametrize("region", [Region.ET, Region.WT, None])
@pytest.mark.parametrize("depth", [2, 4])
def test_nothing_changes_beyond_the_reach_of_a_prompt(region, depth):
    shape, bar = (24, 90, 24), (slice(8, 16), slice(10, 88), slice(8, 16))
    outline = outlined((slice(2, 22), slice(8, 11), slice(2, 22)), shape=shape)
    at = (12, 10 + depth, 12)
    mask = mask_of(study_of(bar, shape=shape), [at], outline=outline, region=region)
    far = np.linalg.norm(np.argwhere(mask & ~outline) - at, axis=1)
    reach = DEPTHS[region] * depth
    assert 0.6 * reach < far.max() <= reach < MAX_REACH_MM


def test_correction_of_a_region_ends_half_way_to_a_prompt_of_the_other_sign():
    bar = (slice(6, 11), slice(10, 50), slice(6, 11))
    outline = outlined((slice(6, 11), slice(8, 11), slice(6, 11)))
    named, unnamed = (
        mask_of(study_of(bar), [(8, 14, 8)], [(8, 24, 8)], outline, region) & ~outline
        for region in (Region.WT, None)
    )
    assert 17 <= np.argwhere(named)[:, 1].max() <= 19 < np.argwhere(unnamed)[:, 1].max()


def test_correction_does_not_pass_through_the_outline():
    bar = (slice(6, 11), slice(10, 50), slice(6, 11))
    outline = outlined((slice(4, 13), slice(20, 23), slice(4, 13)))
    mask = mask_of(study_of(bar), [(8, 17, 8)], outline=outline)
    assert mask[8, 12, 8]
    assert not mask[8, 24, 8]


def test_prompt_adds_at_most_four_times_the_outline():
    outline = outlined((slice(50, 62), slice(62, 64), slice(50, 57)))  # 168 voxels
    mask = mask_of(BOTH, [(56, 56, 53)], outline=outline) & ~outline
    assert 2 * 168 < np.count_nonzero(mask) <= 4.5 * 168  # and ties


def test_prompts_are_binding_against_the_images():
    mask = mask_of(BOTH, [NOWHERE], [IN_LARGE], outlined(LARGE))
    assert mask[NOWHERE]
    assert not mask[IN_LARGE]


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"background": [IN_SMALL]},
        {"outline": outlined(SMALL)},
        {"foreground": [IN_SMALL], "background": [IN_SMALL]},
        {"foreground": [(0, 0, 0)]},
        {"foreground": [(99, 0, 0)]},
        {"foreground": [NOWHERE]},
    ],
)
def test_unusable_prompts_are_refused(request_):
    with pytest.raises(UnusableInputError):
        answer(BOTH, **request_)


def test_analysis_follows_a_prompt_at_similar_voxels_most():
    """Of two tissues that it sees too weakly, the prompted one rises."""
    probability = np.full((40, 40, 40), 0.02, np.float32)
    probability[5:20, 15:25, 15:25], probability[20:35, 15:25, 15:25] = 0.2, 0.8
    probability = gaussian_filter(probability, 1.5)
    smooth = np.zeros((2, 40, 40, 40), np.float32)
    smooth[:, 5:15, 15:25, 15:25], smooth[:, 15:20, 15:25, 15:25] = 2.0, -2.0
    outline = probability >= 0.5
    inside = points((10, 20, 20))
    before, after, against = (
        shifted_logits(probability, smooth, outline, *prompts)
        for prompts in (
            (points(), points()),
            (inside, points()),
            (points(), points((28, 20, 20), (99, 0, 0))),
        )
    )
    risen = after - before
    assert before[10, 20, 20] < 0 < after[10, 20, 20] < 0.3
    assert risen[8, 20, 20] > 4 * risen[17, 20, 20] > 0
    assert risen[38, 38, 38] < 0.2 * risen[8, 20, 20]
    assert against[28, 20, 20] < 0 < before[28, 20, 20]


@pytest.mark.parametrize("spacing", [1.0, 1.3, 2.2])
def test_crop_of_a_ramp_is_pasted_back_where_it_was(spacing):
    ramp = (np.indices((40, 44, 42)) * [[[[1]]], [[[3]]], [[[7]]]]).sum(0).astype(np.float32)
    crop = Crop(np.array([20.3, 21.0, 20.6]), spacing, 12)
    values = crop.sample(ramp[None])[0]
    assert float(values.mean()) == pytest.approx(crop.centre @ [1, 3, 7], abs=1e-3)
    box, pasted = crop.paste(values, ramp.shape)
    np.testing.assert_allclose(pasted, ramp[box], atol=1e-3)
    assert crop.voxels(points((20, 21, 21), (39, 21, 21), (-9, 21, 21))).shape == (1, 3)
    outside = crop._replace(centre=np.array([0.0, 21.0, 20.6])).sample(np.ones((1, 40, 44, 42)))
    assert not outside[0, 0].any()


def test_input_holds_what_was_asked_where_it_was_asked():
    n, marked, empty = 16, np.zeros((16,) * 3, bool), np.zeros((16,) * 3, bool)
    marked[12, 8, 8] = True
    images = torch.zeros(4, n, n, n)
    images[3, 8:] = 2.0
    scene = Scene(images, torch.ones(1, n, n, n), (True, True, True, True), None, 1.0)
    maps, facts = prompt_input(scene, Question(marked, empty, None, 0))
    assert maps[0, 9, 12, 8, 8] == maps[0, 10, 12, 8, 8] == 4
    assert maps[0, 9, 12, 8, 14] < 0.01 < 2 < maps[0, 10, 12, 8, 14]
    assert maps[0, 16, 12, 4, 4] == pytest.approx(0, abs=0.01)  # FLAIR as at the prompt
    assert maps[0, 16, 2, 4, 4] == pytest.approx(-1, abs=0.01)
    assert not maps[0, 17:21].any()
    assert facts[0].tolist() == [1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    absent = replace(scene, present=(True, True, True, False))
    assert not prompt_input(absent, Question(marked, empty, None, None)).maps[0, 13:17].any()


@pytest.mark.parametrize("name", [prompt_net.GENERAL, prompt_net.SMALL])
@torch.inference_mode()
def test_attention_is_of_the_foreground_and_changes_no_answer(name):
    network, maps = prompt_net.load(name)[0], torch.zeros(1, prompt_net.MAPS, 16, 16, 16)
    maps[:, :4] = torch.randn(1, 4, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    maps[:, 9, 8, 8, 8] = 4.0
    x = PromptInput(maps, torch.zeros(1, prompt_net.FACTS))
    plain, traced = network(x), network(x, trace=True)
    torch.testing.assert_close(plain.logits, traced.logits, atol=1e-4, rtol=1e-4)
    assert plain.attention is None
    torch.testing.assert_close(traced.attention.sum(), torch.tensor(1.0))
    moved = network(PromptInput(maps.roll(4, 2), x.facts), trace=True).attention
    assert moved.argmax() != traced.attention.argmax() or not torch.equal(moved, traced.attention)


def test_weights_are_read_as_they_were_written_and_others_are_refused(tmp_path):
    network, notes, _ = prompt_net.load()
    path = tmp_path / "mine.safetensors"
    prompt_net.save(path, network, notes)
    read = prompt_net.load(path)[0].state_dict()
    assert all(torch.equal(read[k], v.half().float()) for k, v in network.state_dict().items())
    path.write_bytes(b"no tensors")
    for other in (path, tmp_path / "missing.safetensors", FOLDER / "default.safetensors"):
        with pytest.raises(WeightsError, match=other.name):
            prompt_net.load(other)


def test_study_is_answered_on_its_working_grid_by_the_shipped_networks():
    one, other, prompter = prepared_head(), prepared_head(("flair",)), Prompter()
    for study in (one, other, one):
        inside = np.argwhere(study.brain)
        at = inside[len(inside) // 2]
        known = np.zeros(study.working.shape, np.float32)
        known[tuple(slice(v - 4, v + 5) for v in at)] = 0.9
        request = PromptRequest(at[None], points(), region=Region.WT)
        response = prompter.prompt(study, request, {Region.WT: known})
        assert response.mask_over(None, study.working.shape)[tuple(at)]
        assert response.attention.shape == response.probability.shape
    release, general, small = response.made_by.split("; ")
    assert release == f"LesionLens {__version__}"
    assert (general[:6], small[:12]) == (prompt_net.GENERAL, prompt_net.SMALL)
    assert MrSequence.T1C not in other.sequences


def test_correction_leaves_every_other_voxel_of_the_working_grid():
    study = prepared_head()
    outline = study.brain & (np.random.default_rng(0).random(study.working.shape) < 0.3)
    at = np.argwhere(outline)[outline.sum() // 2]
    response = Prompter().prompt(study, PromptRequest(points(), at[None], outline), None)
    mask = response.mask_over(outline, study.working.shape)
    assert not mask[tuple(at)]
    assert response.settled.mean() > 0.5
    assert (mask == outline)[response.box][response.settled].all()
