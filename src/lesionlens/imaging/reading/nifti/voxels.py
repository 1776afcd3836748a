"""Read the voxels of one NIfTI file to the end of the file, so that damage is noticed."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.openers import Opener
from numpy.typing import NDArray

from lesionlens.base.errors import ReadError, replaced, unreadable
from lesionlens.base.files import FileState, file_state
from lesionlens.base.geometry import Floats
from lesionlens.imaging.reading.nifti.header import BROKEN, check_refusal, first_line, open_image

_TRAILING = 2**20
"""Maximum bytes after the voxels (extensions, padding) that are read to reach the stream's end."""


def state_of(path: Path) -> FileState:
    """Return the state of a file, by which a replacement is noticed.

    Raises
    ------
    ReadError
        The system refuses it, as when it is gone.
    """
    try:
        return file_state(path)
    except OSError as error:
        raise unreadable(error, path.name) from error


def read_opened(path: Path, shape: Sequence[int], opened: FileState) -> Floats:
    """Read the voxels of a file whose header was read when its study was opened.

    Parameters
    ----------
    opened : FileState
        State of the file before its header was read.

    Raises
    ------
    ReadError
        The file was replaced since: another image would be placed, and its sides named, by the old
        header. Otherwise as `read_stored`.
    """
    if state_of(path) != opened:
        raise replaced(path.name)
    return read_voxels(path, shape)


def read_voxels(path: Path, shape: Sequence[int]) -> Floats:
    """Read the voxels as float32 in scanner units; raises as `read_stored`."""
    try:
        values = np.asarray(_open_complete(path).get_fdata(dtype=np.float32, caching="unchanged"))
    except BROKEN as error:
        raise _truncated(path, shape, error) from error
    return values.reshape(tuple(shape))


def read_stored(path: Path, shape: Sequence[int], channel: int | None = None) -> NDArray[Any]:
    """Read the voxels in scanner units; in the stored type if the file has no scale.

    Parameters
    ----------
    path : Path
        Its header was read by `header.read_header`.
    shape : (3,) int
        Shape of one volume.
    channel : int or None
        Volume of a 4-D file.

    Raises
    ------
    ReadError
        Truncated, damaged, or with an infinite scale.
    """
    try:
        stored = _open_complete(path).dataobj
        values: NDArray[Any] = np.asanyarray(stored if channel is None else stored[..., channel])
    except BROKEN as error:
        raise _truncated(path, shape, error) from error
    return values.reshape(tuple(shape))


def _truncated(path: Path, shape: Sequence[int], error: BaseException) -> ReadError:
    check_refusal(error, path)
    return ReadError(
        found=f"{path.name!r} ends before its last voxel or is corrupt (truncated or damaged: "
        f"{first_line(error, path)})",
        expected=f"{'x'.join(map(str, shape))} voxels",
        next_step="Copy or download the file again, or convert the scan again",
    )


def _open_complete(path: Path) -> Any:
    """Open a file whose scale is finite; a compressed one is read to its end."""
    image = open_image(path)
    _check_scale(path, image)
    if not path.name.lower().endswith(".gz"):
        return image
    return type(image).from_bytes(_read_complete_stream(path, image))


def _check_scale(path: Path, image: Any) -> None:
    """Refuse an infinite scale, which nibabel ignores; NaN means no scale by the standard."""
    with Opener(path) as stream:
        raw_header = image.header_class.from_fileobj(stream, check=False)
    if np.isinf(float(raw_header["scl_slope"])) or np.isinf(float(raw_header["scl_inter"])):
        raise ReadError(
            found=f"a scale slope or intercept that is not finite in the header of {path.name!r}",
            expected="finite numbers",
            next_step="Convert the scan again from its DICOM files",
        )


def _read_complete_stream(path: Path, image: Any) -> bytes:
    """Decompress a .nii.gz to its end, so that its checksum is verified."""
    byte_count = int(image.dataobj.offset) + image.get_data_dtype().itemsize * int(
        np.prod(image.shape, dtype=np.int64)
    )
    with gzip.open(path, "rb") as stream:
        raw = stream.read(byte_count)
        stream.read(_TRAILING)  # gzip verifies its checksum at the end of the stream
    return raw
