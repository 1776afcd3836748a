"""Prompts about a study of which not every sequence is there."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from lesionlens import __version__
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.records.prompts import PromptRequest
from lesionlens.base.run_context import SILENT
from lesionlens.engines.engine import prompt
from lesionlens.engines.network_input import InputFrame
from lesionlens.engines.prompting import study_prompts
from lesionlens.engines.prompting.study_prompts import StudyPrompts
from lesionlens.network.prompt.weights import NAME, SMALL_NAME, load_shipped
from lesionlens.testing import prepared_head


def test_without_t1c_the_whole_tumour_is_outlined_and_its_enhancing_part_refused_in_words():
    head = prepared_head()
    present = np.array(head.present)
    present[list(MrSequence).index(MrSequence.T1C)] = False
    channels = head.channels * present[:, None, None, None]
    study = replace(head, channels=channels, present=present, reference=MrSequence.FLAIR)
    here = np.argwhere(study.brain)[900]
    known = np.zeros(study.working.shape, np.float32)
    known[tuple(slice(v - 4, v + 5) for v in here)] = 0.9
    chances = {Region.WT: known, Region.TC: known / 2}
    nobody = np.zeros((0, 3), np.int64)

    def asked(region):
        request = PromptRequest(here[None], nobody, region=region)
        return prompt(StudyPrompts(), study, request, chances, context=SILENT)

    assert asked(Region.WT).mask_over(None, study.working.shape)[tuple(here)]
    with pytest.raises(UnusableInputError, match="without T1c"):
        asked(Region.ET)


def test_a_response_names_both_networks_and_the_release():
    """Either may answer, so that other weights of one may change any answer."""
    study, nobody = prepared_head(), np.zeros((0, 3), np.int64)
    inside = np.argwhere(study.brain)
    request = PromptRequest(inside[len(inside) // 2][None], nobody)
    release, *networks = StudyPrompts().prompt(study, request, None).made_by.split("; ")
    assert release == f"LesionLens {__version__}"
    for name, words in zip((NAME, SMALL_NAME), networks, strict=True):
        _, notes, digest = load_shipped(name=name)
        assert words == f"{name} {notes.version}, weights {digest[:8]}"


def test_a_response_is_about_the_study_that_was_passed(monkeypatch):
    """Also without probabilities, as for segmentations opened for review one after the other."""
    one, other, read = prepared_head(), prepared_head(("flair",)), []

    def prompt_study(prepared, predicted):
        read.append(prepared)
        return InputFrame.over(prepared, 4.0), object()

    monkeypatch.setattr(study_prompts, "_prompt_study", prompt_study)
    prompts = StudyPrompts()
    for study in (one, one, other, one):
        assert prompts._study_features(study, None, SILENT)[0].prepared is study
    assert list(map(id, read)) == list(map(id, (one, other, one)))


def test_a_response_does_not_depend_on_the_number_of_threads():
    """The images were normalised by as many threads as there were: their sums round otherwise."""
    head = prepared_head()
    shape = (128, 128, 128)
    brain = np.zeros(shape, bool)
    brain[4:-4, 4:-4, 4:-4] = True
    channels = np.random.default_rng(0).gamma(9, 30, (4, *shape)).astype(np.float32)
    grid = Grid(shape, np.eye(4))
    study = replace(
        head, channels=channels, present=np.ones(4, bool), brain=brain, working=grid, native=grid,
        to_native=np.eye(4),
    )  # fmt: skip
    request = PromptRequest(np.array([[64, 64, 64]]), np.zeros((0, 3), np.int64), region=Region.WT)
    before, found = torch.get_num_threads(), []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            found.append(StudyPrompts().prompt(study, request, None))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(found[0].probability, found[1].probability)
    np.testing.assert_array_equal(found[0].attention, found[1].attention)
