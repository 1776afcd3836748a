"""How frames are stored so that viewers find every pixel.

Frames of one bit a pixel follow each other without a gap, and what is odd at the end is padded by a
byte (PS3.5, 8.1.1). The library with which OHIF (3.13) reads Segmentations misplaces frames that
do not begin with a byte, and takes the byte at the end for an error. So a matrix whose number of
pixels is no multiple of 8 gets one byte a pixel, and an odd number of bytes an empty frame more.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from highdicom.seg import SegmentationTypeValues
from numpy.typing import NDArray
from pydicom.dataset import Dataset


def kind_of(rows: int, columns: int) -> SegmentationTypeValues:
    """Return BINARY (a bit a pixel), or FRACTIONAL (a byte) where frames would share a byte.

    Examples
    --------
    >>> kind_of(240, 240).value, kind_of(193, 167).value
    ('BINARY', 'FRACTIONAL')
    """
    whole = rows * columns % 8 == 0
    return SegmentationTypeValues.BINARY if whole else SegmentationTypeValues.FRACTIONAL


def empty_frames(held: NDArray[np.bool_], pixels: int) -> NDArray[np.intp]:
    """Return which empty frame to write too, so that the bytes of all come out even.

    Parameters
    ----------
    held : (F, S) bool
        On which of F frames each of S segments has a voxel; the others are else left out.
    pixels : int
        Of a frame.

    Returns
    -------
    (N, 2) int
        Frame and segment, from 0; none or one. None is needed of one byte a pixel.

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
    """Make frames empty that were marked so as to be written.

    Parameters
    ----------
    seg : Dataset
        A Segmentation of one bit a pixel; changed.
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
