"""Frames of one bit a pixel that fill an even number of bytes.

They follow each other without a gap, and what is odd at the end is padded by a byte (PS3.5, 8.1.1).
The library with which OHIF reads Segmentations takes that byte for an error and asks the archive
for single frames, which some archives do not give of such sizes. An empty frame more, which is
valid, avoids it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

MOST_ADDED = 16
"""Of any size of frame one to fifteen more come out even."""


def empty_frames(frames: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Return which empty frames to write too, so that the bytes of all come out even.

    Parameters
    ----------
    frames : (F, rows, columns, S) uint8
        Of S segments; those without a voxel are else left out.

    Returns
    -------
    (N, 2) int
        Frame and segment, from 0.

    Examples
    --------
    >>> frames = np.zeros((9, 4, 6, 1), np.uint8)
    >>> frames[3] = 1
    >>> empty_frames(frames)
    array([[2, 0]])
    """
    held = frames.any(axis=(1, 2))
    count, bits = int(held.sum()), frames.shape[1] * frames.shape[2]
    wanted = next((n for n in range(MOST_ADDED) if -(-(count + n) * bits // 8) % 2 == 0), 0)
    free, used = np.argwhere(~held), np.argwhere(held)
    gaps = np.abs(free[:, None, 0] - used[None, :, 0]).min(axis=1, initial=len(frames))
    nearest: NDArray[np.intp] = free[np.argsort(gaps, kind="stable")[:wanted]]
    return nearest


def notices(rows: int, columns: int) -> tuple[str, ...]:
    """Say it where a viewer is known to draw frames of this size wrong.

    Examples
    --------
    >>> notices(240, 240)
    ()
    """
    if rows * columns % 8 == 0:
        return ()
    return (
        f"OHIF (3.13) draws one-bit frames of {columns} by {rows} pixels, whose number is no "
        "multiple of 8, at wrong places: look at the Segmentation in another viewer",
    )


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
