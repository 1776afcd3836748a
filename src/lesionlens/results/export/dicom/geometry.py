"""Plane positions of chosen frames, where highdicom cannot take them from the source itself."""

from __future__ import annotations

import numpy as np
from highdicom import PlanePositionSequence
from highdicom.enum import CoordinateSystemNames
from numpy.typing import NDArray

from lesionlens.results.export.dicom.refs import SourceFrames


def plane_positions(
    sources: SourceFrames, chosen: NDArray[np.intp], corner: tuple[int, int] = (0, 0)
) -> list[PlanePositionSequence]:
    """Return the positions of chosen frames, as DICOM's items.

    Parameters
    ----------
    sources : SourceFrames
        The reference series.
    chosen : (N,) int
        Frames of it.
    corner : (2,) int
        Row and column of the source's pixel that is the first of the frames meant: of frames that
        are cut out of the source's.
    """
    row, column = corner
    return [
        PlanePositionSequence(CoordinateSystemNames.PATIENT, (plane @ (column, row, 1.0)).tolist())
        for plane in sources.planes[chosen]
    ]
