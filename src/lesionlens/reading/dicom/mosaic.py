"""Siemens mosaics: one picture that holds all slices of a volume, side by side.

Functional and diffusion scans come so; none of the four sequences does. They are listed with
their true geometry, which the private CSA header holds, and set aside.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from lesionlens.base.errors import ReadError
from lesionlens.base.geometry import ras_from_lps
from lesionlens.base.grid import Grid
from lesionlens.reading.dicom.pixels import decode, syntax_of
from lesionlens.reading.dicom.scan import MOSAIC_COUNT

CSA_HEADER = (0x0029, 0x1010)
_ODD = (
    AttributeError, ValueError, KeyError, TypeError, IndexError, OSError, RuntimeError,
    struct.error,
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Mosaic:
    """One mosaic, taken apart.

    Parameters
    ----------
    grid : Grid
        Of the volume, not of the picture.
    load : callable
        Reads (I, J, K) float32, stored values.
    """

    grid: Grid
    load: Callable[[], NDArray[np.float32]]


def csa_texts(raw: bytes, wanted: tuple[str, ...]) -> Mapping[str, tuple[str, ...]]:
    """Return the values of some tags of a Siemens CSA header (version 2).

    Raises
    ------
    ValueError, struct.error
        Not such a header, or cut short.
    """
    if raw[:4] != b"SV10":
        raise ValueError("not a CSA header of version 2")
    (count,) = struct.unpack_from("<I", raw, 8)
    found: dict[str, tuple[str, ...]] = {}
    place = 16
    for _ in range(min(count, 1000)):
        name = raw[place : place + 64].split(b"\0")[0].decode("ascii", "replace")
        (items,) = struct.unpack_from("<i", raw, place + 76)
        place += 84
        values = []
        for _ in range(items):
            (length,) = struct.unpack_from("<i", raw, place + 4)
            values.append(raw[place + 16 : place + 16 + length])
            place += 16 + (length + 3) // 4 * 4
        if name in wanted:
            texts = (v.split(b"\0")[0].decode("ascii", "replace").strip() for v in values)
            found[name] = tuple(text for text in texts if text)
    return found


def open_mosaic(path: Path) -> Mosaic:
    """Read the geometry of a mosaic from its headers.

    Raises
    ------
    ReadError
        The private header is missing or damaged.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = pydicom.dcmread(path, stop_before_pixels=True)
            count = int(header[MOSAIC_COUNT].value)
            tiles = int(np.ceil(np.sqrt(count)))
            shape = (int(header.Columns) // tiles, int(header.Rows) // tiles, count)
            grid = Grid(shape, ras_from_lps(_affine_lps(header, shape)))
    except _ODD as error:
        raise ReadError(
            found=f"a Siemens mosaic whose private header cannot be read: {path.name!r} "
            f"({syntax_of(path)})",
            expected="the CSA header that says where its slices lie",
            next_step="Export the series again without removing private attributes",
        ) from error

    def load() -> NDArray[np.float32]:
        picture = decode(path)
        columns, rows, slices = shape
        whole = picture[: rows * tiles, : columns * tiles]
        parts = whole.reshape(tiles, rows, tiles, columns).transpose(0, 2, 1, 3)
        return parts.reshape(-1, rows, columns)[:slices].transpose(2, 1, 0).astype(np.float32)

    return Mosaic(grid, load)


def _affine_lps(header: Any, shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """Lay a grid through the slices; the header's position is that of the picture's corner."""
    texts = csa_texts(bytes(header[CSA_HEADER].value), ("SliceNormalVector",))
    normal = np.array([float(text) for text in texts["SliceNormalVector"]])
    orientation = np.asarray(header.ImageOrientationPatient, dtype=np.float64)
    down, right = np.asarray(header.PixelSpacing, dtype=np.float64)
    step = float(header.get("SpacingBetweenSlices") or header.SliceThickness)
    affine = np.eye(4)
    affine[:3, 0] = orientation[:3] * right
    affine[:3, 1] = orientation[3:] * down
    affine[:3, 2] = normal * step
    beyond = (np.array([int(header.Columns), int(header.Rows)]) - shape[:2]) / 2
    corner = np.asarray(header.ImagePositionPatient, dtype=np.float64)
    affine[:3, 3] = corner + affine[:3, :2] @ beyond
    return affine
