"""Plane positions of selected frames, if highdicom cannot derive them from the source."""

from __future__ import annotations

import numpy as np
from highdicom import PlanePositionSequence
from highdicom.enum import CoordinateSystemNames
from numpy.typing import NDArray

from lesionlens.results.export.dicom.refs import SourceFrames


def plane_positions(
    sources: SourceFrames, chosen: NDArray[np.intp], corner: tuple[int, int] = (0, 0)
) -> list[PlanePositionSequence]:
    """Return the positions of selected frames as DICOM items.

    Parameters
    ----------
    chosen : (N,) int
        Indices of the selected frames.
    corner : (2,) int
        Row and column, in the source, of the first pixel of cropped frames.
    """
    row, column = corner
    return [
        PlanePositionSequence(CoordinateSystemNames.PATIENT, (plane @ (column, row, 1.0)).tolist())
        for plane in sources.planes[chosen]
    ]
