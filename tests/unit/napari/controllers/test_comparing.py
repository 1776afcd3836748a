"""Pictures of a prior examination, in the frame of this one."""

from dataclasses import replace

import numpy as np

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
