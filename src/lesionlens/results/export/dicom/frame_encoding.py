"""Frame encoding for viewers with alignment bugs.

Frames of one bit per pixel are packed without gaps, and an odd length is padded by a byte (PS3.5,
8.1.1). OHIF's (3.13) Segmentation reader misplaces frames that do not start on a byte boundary, and
rejects the padding byte. Therefore frames whose number of pixels is not a multiple of 8 are stored
with one byte per pixel, and an odd total length gets an additional empty frame.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from highdicom.seg import SegmentationTypeValues
from numpy.typing import NDArray
from pydicom.dataset import Dataset


def kind_of(rows: int, columns: int) -> SegmentationTypeValues:
    """Return BINARY (one bit per pixel), or FRACTIONAL (one byte) if frames would share a byte.

    Examples
    --------
    >>> kind_of(240, 240).value, kind_of(193, 167).value
    ('BINARY', 'FRACTIONAL')
    """
    whole = rows * columns % 8 == 0
    return SegmentationTypeValues.BINARY if whole else SegmentationTypeValues.FRACTIONAL


def empty_frames(held: NDArray[np.bool_], pixels: int) -> NDArray[np.intp]:
    """Return an empty frame to add, so that the total number of bytes is even.

    Parameters
    ----------
    held : (F, S) bool
        Which of F frames each of S segments has a voxel on; other frames are not stored.
    pixels : int
        Number of pixels per frame.

    Returns
    -------
    (N, 2) int
        Frame and segment, from 0; zero or one row.

    Examples
    --------
    >>> held = np.zeros((9, 1), bool)
    >>> held[3] = True
    >>> empty_frames(held, 4 * 6)
    array([[2, 0]])
    """
    octets, rest = divmod(pixels, 8)
    odd = rest == 0 and int(held.sum()) * octets % 2
    free, used = np.argwhere(~held), np.argwhere(held)
    gaps = np.abs(free[:, None, 0] - used[None, :, 0]).min(axis=1, initial=len(held))
    nearest: NDArray[np.intp] = free[np.argsort(gaps, kind="stable")[: int(odd)]]
    return nearest


def clear(seg: Dataset, places: list[tuple[Any, int]]) -> None:
    """Clear frames that were only marked to be stored.

    Parameters
    ----------
    seg : Dataset
        A BINARY Segmentation; modified in place.
    places : list of ((3,), int)
        Position of each frame to clear, LPS+ mm, and the number of its segment.
    """
    bits = np.unpackbits(np.frombuffer(seg.PixelData, np.uint8), bitorder="little")
    size, count = seg.Rows * seg.Columns, int(seg.NumberOfFrames)
    frames = bits[: size * count].reshape(count, size)
    for number, groups in enumerate(seg.PerFrameFunctionalGroupsSequence):
        segment = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        found = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        if any(segment == wanted and np.allclose(found, at, atol=1e-2) for at, wanted in places):
            frames[number] = 0
    packed = np.packbits(frames, bitorder="little").tobytes()
    seg.PixelData = packed + b"\0" * (len(packed) % 2)
