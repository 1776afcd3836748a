"""Studies that are opened again with other series."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import QObject

from lesionlens.base.records.study import Study, StudyKind
from lesionlens.napari import loading
from lesionlens.napari.controllers.opener import Opener, again
from lesionlens.napari.model.acts.session import ReviewSession
from lesionlens.napari.model.state.identity import StudyIdentity
from lesionlens.napari.model.state.state import Request


class ImmediateJobs(QObject):
    """Jobs that run at once."""

    running = False

    def start(self, _, task, on_result, __):
        on_result(task(None))
        return True


def study_of(uid):
    return Study("head", StudyKind.DICOM, {}, Path("folder"), uid=uid)


@pytest.mark.parametrize("uid", ["1.1", "1.2"])
def test_only_the_same_study_takes_the_place_of_the_one_in_a_list(monkeypatch, uid):
    """The folder may hold another study meanwhile, of another patient than the list states."""
    session, listed = ReviewSession(), StudyIdentity("a", number="P1", date="2026-01-05")
    before, is_same = study_of("1.1"), uid == "1.1"
    session.open(before, Request((before.root,)), listed)
    layer = (np.zeros((2, 2, 2)), {"metadata": {loading.KEY: {"study": study_of(uid)}}}, "image")
    monkeypatch.setattr(loading, "read_study", lambda *_, **__: [layer])
    opener = Opener(session, ImmediateJobs(), ViewerModel(), Mock())
    assert opener.open(again(before, session.state.request))
    assert session.state.study.uid == uid
    assert session.state.request.in_place_of is (before if is_same else None)
    assert (session.state.identity.number == listed.number) is is_same
