"""Studies that are opened again with other series."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import QObject

from lesionlens.base.errors import LesionLensError
from lesionlens.base.records.study import Study, StudyKind
from lesionlens.imaging.reading.open import ListedStudy, several_studies
from lesionlens.napari import loading
from lesionlens.napari.controllers.opener import Opener, again
from lesionlens.napari.model.acts.session import ReviewSession
from lesionlens.napari.model.state.identity import StudyIdentity
from lesionlens.napari.model.state.state import Request


class ImmediateJobs(QObject):
    """Jobs that run at once."""

    running = False

    def start(self, _, task, on_result, on_error):
        try:
            value = task(None)
        except LesionLensError as error:
            on_error(error)
        else:
            on_result(value)
        return True


def study_of(uid):
    return Study("head", StudyKind.DICOM, {}, Path("folder"), uid=uid)


@pytest.fixture
def listed():
    """The identity that a list states for the open study."""
    return StudyIdentity("a", number="P1", date="2026-01-05")


def choice_of(uid):
    return ListedStudy(uid, StudyKind.DICOM, "20260105", "", series=1, images=2)


def layers_of(uid):
    metadata = {loading.KEY: {"study": study_of(uid)}}
    return [(np.zeros((2, 2, 2)), {"metadata": metadata}, "image")]


@pytest.mark.parametrize("uid", ["1.1", "1.2"])
def test_only_the_same_study_takes_the_place_of_the_one_in_a_list(monkeypatch, listed, uid):
    """The folder may hold another study meanwhile, of another patient than the list states."""
    session, before, is_same = ReviewSession(), study_of("1.1"), uid == "1.1"
    session.open(before, Request((before.root,)), listed)
    monkeypatch.setattr(loading, "read_study", lambda *_, **__: layers_of(uid))
    opener = Opener(session, ImmediateJobs(), ViewerModel(), Mock())
    assert opener.open(again(before, session.state.request))
    assert session.state.study.uid == uid
    assert session.state.request.in_place_of is (before if is_same else None)
    assert (session.state.identity.number == listed.number) is is_same


@pytest.mark.parametrize("uid", ["1.1", "1.2"])
def test_so_does_the_one_chosen_among_several_that_the_folder_holds_meanwhile(
    monkeypatch, listed, uid
):
    def read(*_, study_uid, **__):
        if study_uid is None:
            raise several_studies([choice_of("1.1"), choice_of("1.2")], None)
        return layers_of(study_uid)

    monkeypatch.setattr(loading, "read_study", read)
    session, before = ReviewSession(), study_of("1.1")
    session.open(before, Request((before.root,)), listed)
    opener = Opener(session, ImmediateJobs(), ViewerModel(), Mock())
    assert opener.open(again(before, session.state.request))
    assert session.state.study is None
    assert opener.choose_study(uid)
    assert session.state.study.uid == uid
    assert (session.state.identity.number == listed.number) is (uid == "1.1")
