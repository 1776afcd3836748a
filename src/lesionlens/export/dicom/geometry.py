"""Plane positions of chosen frames, where highdicom cannot take them from the source itself."""

from __future__ import annotations

import numpy as np
from highdicom import PlanePositionSequence
from highdicom.enum import CoordinateSystemNames
from numpy.typing import NDArray

from lesionlens.export.dicom.refs import SourceFrames


def plane_positions(
    sources: SourceFrames, chosen: NDArray[np.intp]
) -> list[PlanePositionSequence] | None:
    """Return the positions of chosen frames of a multi-frame source.

    None for single-frame sources: there highdicom copies each image's own position and records
    that locations are preserved.
    """
    if sources.numbers is None:
        return None
    return [
        PlanePositionSequence(CoordinateSystemNames.PATIENT, sources.positions[number].tolist())
        for number in chosen
    ]
