"""Against a stand-in for the server's client: what is sent, and what comes of the answers."""

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from lesionlens_nninteractive import engine as nninteractive

from lesionlens.base.errors import ResourceError, UnusableInputError
from lesionlens.base.records.prompts import PromptRequest
from lesionlens.base.run_context import SILENT
from lesionlens.engines.testing.engine_contract import prepared_head


class StandIn:
    """Answers a cube of 7 voxels round each point for; remembers what it was sent."""

    def __init__(self):
        self.images, self.points, self.target, self.fails = [], [], None, False

    def set_image(self, image):
        if self.fails:
            raise ConnectionError("refused")
        self.images.append(image)

    def set_target_buffer(self, target):
        self.target = target

    def reset_interactions(self):
        self.points.clear()

    def add_initial_seg_interaction(self, initial_seg, run_prediction=False):
        self.target[...] = initial_seg

    def add_point_interaction(self, coordinates, include_interaction, run_prediction=True):
        self.points.append((coordinates, include_interaction, run_prediction))
        for at, belongs, _ in self.points if run_prediction else ():
            self.target[tuple(slice(max(0, v - 3), v + 4) for v in at)] = belongs


@pytest.fixture
def asked(monkeypatch):
    session, study = StandIn(), prepared_head()
    monkeypatch.setattr(nninteractive, "connect", lambda: session)
    engine = nninteractive.NnInteractiveEngine("cpu", "synthetic")

    def ask(foreground=(), background=(), outline=None):
        points = (np.array(some, np.int64).reshape(-1, 3) for some in (foreground, background))
        question = PromptRequest(*points, outline)
        found = engine.answer_prompts(study, question, None, context=SILENT)
        return found.mask_over(outline, study.working.shape)

    return ask, session, study


def test_points_are_sent_one_by_one_and_the_image_once(asked):
    ask, session, study = asked
    here, there = np.argwhere(study.brain)[[400, 900]]
    mask = ask([here], [there])
    assert mask[tuple(here)]
    assert not mask[tuple(there)]
    assert [run for _, _, run in session.points] == [False, True]
    again = ask([here], outline=mask)
    assert again[mask].all()
    assert len(session.images) == 1
    assert session.images[0].shape == (1, *study.working.shape)


def test_what_cannot_be_asked_or_is_not_answered_is_said_in_words(asked):
    ask, session, study = asked
    here = np.argwhere(study.brain)[400]
    with pytest.raises(UnusableInputError, match="both part of it and not"):
        ask([here], [here])
    with pytest.raises(UnusableInputError, match="no prompt for it"):
        ask(background=[here])
    session.fails = True
    with pytest.raises(ResourceError, match="no answer of nnInteractive"):
        ask([here])
