"""Each window of a reader keeps its own strokes."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from tests.phantoms.analysis import make_analysis, write_study

from lesionlens.napari.controllers.draft_keeper import DraftKeeper
from lesionlens.results.review import store
from lesionlens.results.review.drafts import OutlineDraft
from lesionlens.testing import make_patient

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no locks there")


@pytest.fixture(scope="module")
def analysis(tmp_path_factory):
    patient = make_patient(5, spacing_mm=8.0)
    return make_analysis(patient, write_study(patient, tmp_path_factory.mktemp("keeper") / "s"))


@pytest.fixture
def windows(tmp_path, monkeypatch):
    """Return what keeps the drafts of three windows of one reader."""
    monkeypatch.setattr(store, "sessions_folder", lambda: tmp_path / "reviews")
    reader = SimpleNamespace(decision_owner=lambda: "A. Reader")
    keepers = [DraftKeeper(reader) for _ in range(3)]
    yield keepers
    for keeper in keepers:
        keeper.release()


def draft(analysis, uid):
    return OutlineDraft(uid, np.ones(analysis.prepared.working.shape, np.uint8))


def test_strokes_of_another_window_are_neither_offered_replaced_nor_deleted(windows, analysis):
    """They were offered as interrupted, and both windows wrote and deleted one file."""
    first, second, third = windows
    assert first.read(analysis) is None
    first.write(analysis, draft(analysis, "2.25.5"))
    assert second.read(analysis) is None
    assert second.is_drawn_elsewhere(analysis)
    second.delete()  # an edit without a stroke
    for uid, keeper in (("2.25.6", second), ("2.25.7", first), ("2.25.8", second)):
        keeper.write(analysis, draft(analysis, uid))
    second.delete()  # kept
    assert third.read(analysis) is None
    first.release()  # the study was left
    assert third.read(analysis).tracking_uid == "2.25.7"
    assert second.read(analysis) is None, "it is offered once"
    third.delete()
    assert second.read(analysis) is None
    assert not second.is_drawn_elsewhere(analysis)
