"""Pictures of a prior examination, in the frame of this one."""

from dataclasses import replace

import numpy as np
import pytest

from lesionlens.analysis.followup.patient import Examination, Prior
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.followup import Alignment, Comparison
from lesionlens.napari.controllers.comparing import pictures_of


def test_the_prior_lies_where_it_was_laid(analysis):
    moved = np.eye(4)
    moved[:3, 3] = (3.0, -2.0, 1.0)
    laid = Alignment(tuple(map(tuple, moved.tolist())), 0.0, 0.0, False, "T1c")
    after = replace(analysis, followup=Comparison((), (), laid))
    found = pictures_of(Prior(Examination(), analysis), after)
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
    working, series = analysis.prepared.working, analysis.study.series[MrSequence.T1C]
    affine = working.affine
    if edges is not None:
        affine = affine @ np.diag([*np.divide(edges, working.spacing_mm), 1.0])
    if turned:
        c, s = np.cos(0.1), np.sin(0.1)
        affine = np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]) @ affine
    series = replace(series, grid=replace(series.grid, affine=affine))
    study = replace(analysis.study, series={**analysis.study.series, MrSequence.T1C: series})
    prior = Prior(Examination(), replace(analysis, study=study))
    laid = Alignment(tuple(map(tuple, np.eye(4).tolist())), 0.0, 0.0, False, "T1c")
    after = replace(analysis, followup=Comparison((), (), laid))
    assert pictures_of(prior, after).resampled.get(MrSequence.T1C, "") == said
