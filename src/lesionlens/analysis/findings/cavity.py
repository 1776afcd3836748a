"""The resection cavity of a patient after surgery, from an engine that outlines one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lesionlens.analysis.findings.components import CandidateCriteria, without_specks
from lesionlens.base.labels import Region
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.prediction import Prediction
from lesionlens.base.records.study import PreparedStudy
from lesionlens.engines import native

Floats = NDArray[np.float32]
THRESHOLD = 0.5


def find_cavity(
    prediction: Prediction, probability: Mapping[Region, Floats], prepared: PreparedStudy
) -> Volume | None:
    """Outline the cavity where it is likelier than not, and likelier than tumour.

    Parameters
    ----------
    prediction : Prediction
        On the working grid.
    probability : mapping of Region to (I, J, K) float32
        On the native grid.

    Returns
    -------
    Volume of bool or None
        On the native grid, parts of at least the volume of a candidate's; None if the engine
        outlines no cavity.
    """
    if prediction.cavity is None:
        return None
    share = native.resample_map(prediction.cavity, prepared)
    inside = (share >= THRESHOLD) & (share > probability[Region.WT])
    smallest = CandidateCriteria().smallest_vox(prepared.native)
    return Volume(without_specks(inside, smallest), prepared.native)
