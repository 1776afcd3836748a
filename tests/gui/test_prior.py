"""An earlier examination beside this one, in a real window; on drawn heads."""

from dataclasses import replace

import numpy as np
import pytest

from lesionlens._napari.controllers.comparing import pictures_of
from lesionlens._napari.model.choices.views import Layout
from lesionlens._napari.model.screen.board import tiles_of
from lesionlens.base.labels import MrSequence, ReviewState
from lesionlens.followup.compare import compare
from lesionlens.followup.patient import Visit
from lesionlens.followup.prior import Prior


@pytest.fixture
def compared(reviewed, analysis, monkeypatch):
    """The panel once the study was compared with itself, as of two months before."""
    prior = Prior(Visit("x", "2026-01-05"), analysis)
    monkeypatch.setattr("lesionlens._napari.controllers.comparing.find_prior", lambda *_: None)
    monkeypatch.setattr("lesionlens._napari.controllers.comparing.open_prior", lambda *_: prior)
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


def test_the_prior_lies_where_it_was_laid(analysis):
    moved = np.eye(4)
    moved[:3, 3] = (3.0, -2.0, 1.0)
    after = compare(analysis, Visit(), Prior(Visit(), analysis))
    laid = replace(after.followup.alignment, matrix=tuple(map(tuple, moved.tolist())))
    after = replace(after, followup=replace(after.followup, alignment=laid))
    found = pictures_of(Prior(Visit(), analysis), after)
    here = found.volumes[MrSequence.T1C].grid.to_mm([0, 0, 0])
    assert np.allclose(here, analysis.prepared.working.to_mm([0, 0, 0]) - moved[:3, 3])
