"""An earlier examination beside this one, in a real window; on drawn heads."""

import pytest

from lesionlens.analysis.followup.patient import Examination, Prior
from lesionlens.base.labels import ReviewState
from lesionlens.base.records.patient import Patient
from lesionlens.napari.model.choices.views import Layout
from lesionlens.napari.model.screen.board import tiles_of
from lesionlens.results.review.prior import PriorImagesError


@pytest.fixture
def compared(reviewed, analysis, monkeypatch):
    """The panel once the study was compared with itself, as of two months before."""
    prior = Prior(Examination(Patient("x"), "2026-01-05"), analysis)
    monkeypatch.setattr("lesionlens.napari.controllers.comparing.find_prior", lambda *_: None)
    monkeypatch.setattr("lesionlens.napari.controllers.comparing.open_prior", lambda *_: prior)
    assert reviewed.actions_.compare(analysis.study.root)
    return reviewed, prior


def test_the_prior_stands_beside_this_examination(compared, qtbot):
    panel, _ = compared
    qtbot.waitUntil(lambda: panel.session.state.choices.views.compared is not None, timeout=120_000)
    state = panel.session.state
    assert state.choices.views.layout is Layout.PRIOR
    assert [tile.prior for tile in tiles_of(state)] == [True, False]
    lines = panel.followup.lines.shown
    assert len(lines) == len(state.analysis.findings.candidates)
    assert all("+0 %" in words for _, _, words in lines)
    panel.followup.lines.picked.emit(lines[1][0])
    assert panel.session.state.choices.candidate == lines[1][0]
    panel.session.go_to(1)
    panel.actions_.accept()
    assert panel.session.state.analysis.followup is not None
    changes = panel.session.state.analysis.compared.changes
    assert changes[0].now.state is ReviewState.ACCEPTED
    if panel.views.linked is not None:
        tiles = panel.views.linked.tiles
        then, now = (panel.views.linked.drawing(view.tile) for view in tiles)
        assert "2026-01-05" in then.words[0] and "2026-01-05" not in now.words[0]  # noqa: PT018
        assert then.image.data.shape == now.image.data.shape
    panel.actions_.prior_beside()
    assert panel.session.state.choices.views.layout is Layout.SINGLE


def test_where_the_earlier_images_lie_is_asked_in_the_window(
    reviewed, analysis, monkeypatch, tmp_path, qtbot
):
    asked = []

    def find(place, now, study=None):
        asked.append(study)
        raise PriorImagesError(
            found="x", expected="y", next_step="--prior-study", in_window="choose the folder"
        )

    monkeypatch.setattr("lesionlens.napari.controllers.comparing.find_prior", find)
    answers = [str(tmp_path), ""]
    monkeypatch.setattr(
        "lesionlens.napari.widgets.panel.QFileDialog.getExistingDirectory",
        lambda *_: answers.pop(0),
    )
    assert reviewed.actions_.compare(analysis.study.root)
    qtbot.waitUntil(lambda: not answers and not reviewed.jobs.running, timeout=60_000)
    assert asked == [None, tmp_path]
    assert reviewed.session.state.problem.next_step == "choose the folder"
