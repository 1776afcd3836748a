"""Pictures of a prior examination, in the frame of this one."""

from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest
from napari.components import ViewerModel

from lesionlens.analysis.followup.compare import PATIENT_UNKNOWN
from lesionlens.analysis.followup.patient import Examination, Prior
from lesionlens.base.errors import PatientConflictError
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.followup import Alignment, Comparison
from lesionlens.base.run_context import SILENT
from lesionlens.napari.controllers import comparing, current_read
from lesionlens.napari.controllers.comparing import (
    ComparingActs,
    prior_pictures,
    resampling_note,
)
from lesionlens.napari.controllers.read_controller import ReadController
from lesionlens.napari.model.acts.session import ReviewSession
from lesionlens.napari.preferences import Preferences


def test_the_prior_lies_where_it_was_laid(analysis):
    moved = np.eye(4)
    moved[:3, 3] = (3.0, -2.0, 1.0)
    laid = Alignment(tuple(map(tuple, moved.tolist())), 0.0, 0.0, False, "T1c")
    after = replace(analysis, followup=Comparison((), (), laid))
    found = prior_pictures(Prior(Examination(), analysis), after)
    here = found.volumes[MrSequence.T1C].grid.to_mm([0, 0, 0])
    assert np.allclose(here, analysis.prepared.working.to_mm([0, 0, 0]) - moved[:3, 3])


@pytest.mark.parametrize(
    ("edges", "turned", "said"),
    [
        (None, False, ""),
        ((1.0, 1.0, 5.0), False, "interpolated from 5 mm slices"),
        ((3.0, 1.2, 1.2), False, "interpolated from 3 mm slices"),
        (None, True, "interpolated"),
    ],
)
def test_a_prior_that_was_resampled_says_so(analysis, edges, turned, said):
    """The view named slices of 1 mm, of an examination with slices of 5 mm."""
    prior = Prior(Examination(), with_t1c(analysis, edges, turned))
    laid = Alignment(tuple(map(tuple, np.eye(4).tolist())), 0.0, 0.0, False, "T1c")
    after = replace(analysis, followup=Comparison((), (), laid))
    assert prior_pictures(prior, after).resampled.get(MrSequence.T1C, "") == said
    with_t1 = resampling_note(prior.analysis, MrSequence.T1, MrSequence.T1C)
    assert with_t1 == said  # T1c - T1 too, by whichever of the two was resampled


def test_a_doubtful_prior_says_so_on_its_view(analysis):
    """Nothing said it in unaided reading, nor after another result of the study was shown."""
    matrix = tuple(map(tuple, np.eye(4).tolist()))

    def words(doubtful, mirrored, notices=()):
        laid = Alignment(matrix, 0.0, 0.0, doubtful, "T1c", mirrored)
        run = replace(analysis.run, notices=notices)
        after = replace(analysis, followup=Comparison((), (), laid), run=run)
        return prior_pictures(Prior(Examination(), analysis), after).registration

    assert words(False, False) == ""
    assert words(True, True) == "seems mirrored: check the sides\nregistration doubtful"
    assert words(False, False, (PATIENT_UNKNOWN,)) == "patient not confirmed"


@pytest.fixture
def refused(analysis, monkeypatch):
    """Acts whose comparison awaits the answer whether it is one patient, and that answer."""
    asked, session = [], ReviewSession()
    session.open(analysis.study)
    monkeypatch.setattr(current_read, "read_preferences", Preferences)
    monkeypatch.setattr(ReadController, "withheld", analysis)
    acts = ComparingActs(session, ViewerModel())
    acts.jobs, acts.dialogs = Mock(), Mock()
    acts.dialogs.ask_patient = lambda error, then: asked.append(then)
    acts.compare(analysis.study.root)
    (_, _, _, on_error), _ = acts.jobs.start.call_args
    on_error(PatientConflictError((), "x.", hint="z."))
    (confirm,) = asked
    return acts, confirm


def test_a_patient_that_was_confirmed_is_not_compared_with_the_next_study(analysis, refused):
    """The question was on the study before, which another window's act had replaced meanwhile."""
    acts, confirm = refused
    acts.session.open(replace(analysis.study, name="next"))
    confirm()
    acts.jobs.start.assert_called_once()
    assert acts.session.state.message == "Another study is open now: nothing was compared."


def test_a_patient_that_was_confirmed_is_not_asked_about_again(analysis, refused, monkeypatch):
    find = Mock(side_effect=FileNotFoundError)
    monkeypatch.setattr(comparing, "find_prior", find)
    acts, confirm = refused
    confirm()
    for (_, task, *_), _ in acts.jobs.start.call_args_list:
        with pytest.raises(FileNotFoundError):
            task(SILENT)
    assert [call.kwargs["same_patient"] for call in find.call_args_list] == [False, True]


def with_t1c(analysis, edges, turned=False):
    """Return an analysis whose T1c was acquired on voxels of these edges (mm), or turned."""
    working, series = analysis.prepared.working, analysis.study.series[MrSequence.T1C]
    affine = working.affine
    if edges is not None:
        affine = affine @ np.diag([*np.divide(edges, working.spacing_mm), 1.0])
    if turned:
        c, s = np.cos(0.1), np.sin(0.1)
        affine = np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]) @ affine
    series = replace(series, grid=replace(series.grid, affine=affine))
    study = replace(analysis.study, series={**analysis.study.series, MrSequence.T1C: series})
    return replace(analysis, study=study)
