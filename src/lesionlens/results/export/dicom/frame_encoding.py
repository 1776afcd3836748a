"""Frame encoding for viewers with alignment bugs.

Frames of one bit per pixel are packed without gaps, and an odd length is padded by a byte (PS3.5,
8.1.1). OHIF's (3.13) Segmentation reader misplaces frames that do not start on a byte boundary, and
rejects the padding byte. Therefore frames whose number of pixels is not a multiple of 8 are stored
with one byte per pixel, and an odd total length gets an additional empty frame.
"""

from __future__ import annotations

import numpy as np
from highdicom.seg import SegmentationTypeValues
from numpy.typing import NDArray
from pydicom.dataset import Dataset


def segmentation_type(rows: int, columns: int) -> SegmentationTypeValues:
    """Return BINARY (one bit per pixel), or FRACTIONAL (one byte) if frames would share a byte.

    Examples
    --------
    >>> segmentation_type(240, 240).value, segmentation_type(193, 167).value
    ('BINARY', 'FRACTIONAL')
    """
    is_byte_aligned = rows * columns % 8 == 0
    return SegmentationTypeValues.BINARY if is_byte_aligned else SegmentationTypeValues.FRACTIONAL


def padding_frames(occupied: NDArray[np.bool_], pixels: int) -> NDArray[np.intp]:
    """Choose an empty frame to store too, so that the total number of bytes is even.

    Parameters
    ----------
    occupied : (F, S) bool
        Which of F frames each of S segments has a voxel on; other frames are not stored.

    Returns
    -------
    (N, 2) int
        Frame and segment, from 0; zero or one row.

    Examples
    --------
    >>> occupied = np.zeros((9, 1), bool)
    >>> occupied[3] = True
    >>> padding_frames(occupied, 4 * 6)
    array([[2, 0]])
    """
    whole_bytes, remainder = divmod(pixels, 8)
    odd = remainder == 0 and int(occupied.sum()) * whole_bytes % 2
    free, used = np.argwhere(~occupied), np.argwhere(occupied)
    gaps = np.abs(free[:, None, 0] - used[None, :, 0]).min(axis=1, initial=len(occupied))
    nearest: NDArray[np.intp] = free[np.argsort(gaps, kind="stable")[: int(odd)]]
    return nearest


def clear_frame(seg: Dataset, position: NDArray[np.float64], number: int) -> None:
    """Clear a frame that was marked only so that it is stored.

    Parameters
    ----------
    seg : Dataset
        A BINARY Segmentation; modified in place.
    position : (3,) float64
        Position of the frame, LPS+ mm.
    number : int
        Number of its segment.
    """
    bits = np.unpackbits(np.frombuffer(seg.PixelData, np.uint8), bitorder="little")
    size, count = seg.Rows * seg.Columns, int(seg.NumberOfFrames)
    frames = bits[: size * count].reshape(count, size)
    for stored, groups in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
        segment = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        stored_position = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        if segment == number and np.allclose(stored_position, position, atol=1e-2):
            stored[:] = 0
    seg.PixelData = np.packbits(frames, bitorder="little").tobytes()
