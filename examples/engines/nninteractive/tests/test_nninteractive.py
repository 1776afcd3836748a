"""Against a stand-in for the server: what is sent, and what comes of the answers."""

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from lesionlens_nninteractive import engine as nninteractive

from lesionlens.plugin import SILENT, PromptRequest, ResourceError, UnusableInputError
from lesionlens.testing import prepared_head


class StandIn:
    """Answers a cube of 7 voxels round the last point; remembers what it was sent."""

    def __init__(self):
        self.images, self.prompts, self.fails, self.closed = [], [], [], 0

    def show(self, image):
        self.images.append(image)

    def ask(self, outline, prompts):
        self.prompts = prompts
        if self.fails:
            raise self.fails.pop()
        mask = np.zeros(self.images[-1].shape, bool) if outline is None else outline.copy()
        at = prompts[-1][0][0]
        mask[tuple(slice(max(0, v - 3), v + 4) for v in at)] = prompts[-1][1]
        return mask

    def close(self):
        self.closed += 1


@pytest.fixture
def asked(monkeypatch):
    server, study = StandIn(), prepared_head()
    monkeypatch.setattr(nninteractive, "connect", lambda: server)
    engine = nninteractive.NnInteractiveEngine("cpu", "synthetic")

    def ask(foreground=(), background=(), outline=None):
        points = (np.array(some, np.int64).reshape(-1, 3) for some in (foreground, background))
        question = PromptRequest(*points, outline)
        found = engine.prompt(study, question, None, context=SILENT)
        assert found.made_by == "a server of nnInteractive", "not the weights of the Lens network"
        return found.mask_over(outline, study.working.shape)

    return ask, server, study


def test_points_and_scribbles_are_told_apart_and_the_image_is_sent_once(asked):
    ask, server, study = asked
    here, there = np.argwhere(study.brain)[[400, 900]]
    line = there + np.array([[0, 0, 0], [1, 0, 0], [1, 1, 1]])
    mask = ask([here], line)
    assert mask[tuple(here)]
    assert not mask[tuple(line.T)].any()
    assert [(len(part), foreground) for part, foreground in server.prompts] == [
        (3, False),
        (1, True),
    ]
    again = ask([here], outline=mask)
    assert again[mask].all()
    assert [image.shape for image in server.images] == [study.working.shape]


def test_what_cannot_be_asked_or_is_not_answered_is_said_in_words(asked):
    ask, server, study = asked
    here = np.argwhere(study.brain)[400]
    with pytest.raises(UnusableInputError, match="what belongs"):
        ask([here], [here])
    with pytest.raises(UnusableInputError, match="what belongs"):
        ask(background=[here])
    server.fails = [ConnectionError("refused")]
    with pytest.raises(ResourceError, match="does not answer"):
        ask([here])
    assert server.closed == 1
    assert ask([here]).any(), "it did not connect again"


def test_a_session_that_the_server_ended_is_begun_anew(asked):
    ask, server, study = asked
    here = np.argwhere(study.brain)[400]
    ask([here])
    server.fails = [ConnectionResetError("expired")]
    assert ask([here])[tuple(here)]
    assert (len(server.images), server.closed) == (2, 1)


def test_a_sequence_is_named_in_any_case_and_an_unknown_one_refused(asked, monkeypatch):
    ask, server, study = asked
    here = np.argwhere(study.brain)[400]
    monkeypatch.setenv(nninteractive.SEQUENCE, "FLAIR2")
    with pytest.raises(UnusableInputError, match="flair2"):
        ask([here])
    monkeypatch.setenv(nninteractive.SEQUENCE, "T1C")
    ask([here])
    assert np.array_equal(server.images[-1], np.asarray(study.channels[1], np.float32))
