"""Read and check the header of one NIfTI file: shape, affine, units."""

from __future__ import annotations

import gzip
import re
import struct
import zlib
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from lesionlens.base.errors import GeometryError, ReadError, unreadable
from lesionlens.base.geometry import Affine, check_affine, spacing_mm
from lesionlens.base.grid import Grid
from lesionlens.base.scan_limits import check_size

BROKEN = (
    OSError, EOFError, ValueError, zlib.error, gzip.BadGzipFile,
    ImageFileError, HeaderDataError, OverflowError,
)  # fmt: skip
_MIXED_SUFFIX = re.compile(r"\.(?!nii|NII)(?i:nii(\.gz)?)$")
"""Suffixes such as .Nii: nibabel opens the file whose suffix is in small letters."""
MAX_OFFSET = 16 * 2**20
"""Maximum bytes of header and extensions before the voxels."""


@dataclass(frozen=True, slots=True)
class NiftiHeader:
    """Checked header of one file; `codes` are those of sform and qform."""

    grid: Grid
    notices: tuple[str, ...]
    codes: tuple[int, int]


def open_image(path: Path) -> Any:
    """Open a NIfTI file lazily.

    Raises
    ------
    ReadError
        Empty, unreadable or not NIfTI, or under a name for which nibabel opens another file.
    """
    try:
        if path.stat().st_size == 0:
            raise ReadError(
                found=f"an empty file, 0 bytes: {path.name!r}",
                expected="a NIfTI file",
                next_step="Copy or convert the scan again",
            )
        _check_suffix(path)
        _check_offset(path)
        image = nib.load(path, mmap=False)
    except BROKEN as error:
        check_refusal(error, path)
        raise ReadError(
            found=f"{path.name!r}, whose header is not that of a NIfTI file (damaged or another "
            f"format: {first_line(error, path)})",
            expected="NIfTI-1 or NIfTI-2, plain as .nii or gzip-compressed as .nii.gz",
            next_step="Convert the scan again from its DICOM files, for example with dcm2niix",
        ) from error
    if not isinstance(image, nib.Nifti1Image | nib.Nifti2Image):
        raise ReadError(
            found=f"{path.name!r}, a file of another format",
            expected="a NIfTI file",
            next_step="Convert the scan to NIfTI",
        )
    return image


def check_refusal(error: BaseException, path: Path) -> None:
    """Raise a ReadError for a refusal of the system, which says nothing about a file's content."""
    if isinstance(error, OSError) and error.errno is not None:
        raise unreadable(error, path.name) from error


def _check_suffix(path: Path) -> None:
    """Refuse a name for which nibabel opens another file."""
    opened = _MIXED_SUFFIX.sub(lambda suffix: suffix[0].lower(), path.name)
    if opened != path.name and not (
        path.with_name(opened).exists() and path.with_name(opened).samefile(path)
    ):
        raise ReadError(
            found=f"{path.name!r}, whose suffix mixes capitals and small letters",
            expected="a name that ends in .nii, .NII or one of these and .gz",
            next_step="Rename the file",
        )


def _check_offset(path: Path) -> None:
    """Refuse an implausibly large voxel offset: everything before it would be read."""
    opener = gzip.open if path.name.lower().endswith(".gz") else open
    with opener(path, "rb") as stream:
        head = stream.read(176)
    if len(head) < 176:
        return
    for order in "<>":
        size = struct.unpack_from(f"{order}i", head)[0]
        if size in (348, 540):
            offset_format, field_offset = (f"{order}f", 108) if size == 348 else (f"{order}q", 168)
            offset = float(struct.unpack_from(offset_format, head, field_offset)[0])
            if not -1 <= offset <= MAX_OFFSET:
                raise ReadError(
                    found=f"a header that says the voxels begin at byte {offset:g}: {path.name!r}",
                    expected=f"at most {MAX_OFFSET // 2**20} MiB of header before the voxels",
                    next_step="The header is damaged: convert the scan again from its DICOM files",
                )


def first_line(error: BaseException, path: Path) -> str:
    """Return the first line of a library's error, shortened and without folder names."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror  # the full text would contain the path above the study
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return text.replace(str(path), path.name).split(" for file")[0][:120]


def read_header(path: Path, channel: int | None = None) -> NiftiHeader:
    """Read shape and affine of a NIfTI file, or of one volume of a 4-D file; refuse ambiguous ones.

    Raises
    ------
    ReadError, GeometryError
        Not three-dimensional, colour or complex voxels, or no usable orientation.
    """
    image = open_image(path)
    shape = tuple(int(n) for n in image.shape)
    if channel is not None:
        shape = _shape_of_channel(shape, channel, path.name)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    _check_shape(shape, path.name)
    dtype = image.get_data_dtype()
    if dtype.kind not in "iufb":
        description = "colour (RGB)" if dtype.fields is not None else "complex or unsupported"
        raise ReadError(
            found=f"voxels of {description} type in {path.name!r}",
            expected="integer or floating-point intensities",
            next_step="Export the magnitude image in greyscale",
        )
    affine, notices = _affine(image, shape, path.name)
    codes = (int(image.header["sform_code"]), int(image.header["qform_code"]))
    return NiftiHeader(Grid((shape[0], shape[1], shape[2]), affine), notices, codes)


def _shape_of_channel(shape: tuple[int, ...], channel: int, name: str) -> tuple[int, ...]:
    if len(shape) != 4 or not channel < shape[3]:
        raise ReadError(
            found=f"{'x'.join(map(str, shape))} voxels in {name!r}, without a volume {channel + 1}",
            expected="one volume for each sequence in a 4-D file",
            next_step="Correct the list of sequences, or the file",
        )
    return shape[:3]


def _check_shape(shape: tuple[int, ...], name: str) -> None:
    if len(shape) > 3 and min(shape) > 0:
        raise ReadError(
            found=f"{len(shape)} dimensions in {name!r}: {prod(shape[3:])} volumes in one 4-D file",
            expected="one three-dimensional volume per file",
            next_step="Split it (nibabel.four_to_three does) and name the volume to use",
        )
    check_size(shape, repr(name))


_UNIT_MM = {1: 1000.0, 3: 0.001}
"""NIfTI's codes of metre and micron; any other, undefined included, counts as millimetre."""


def _affine(image: Any, shape: tuple[int, ...], name: str) -> tuple[Affine, tuple[str, ...]]:
    header = image.header
    if int(header["sform_code"]) == 0 and int(header["qform_code"]) == 0:
        raise GeometryError(
            found=f"no orientation in {name!r}: the codes of sform and qform are both 0",
            expected="an affine that states which side is left",
            next_step="Convert the scan again from its DICOM files, for example with dcm2niix",
        )
    scale = _UNIT_MM.get(int(header["xyzt_units"]) & 7, 1.0)
    affine = check_affine(_scaled(image.affine, scale), where=repr(name))
    notice = _form_disagreement(header, affine, shape, scale)
    return affine, (f"{name!r}: {notice}",) if notice else ()


def _scaled(affine: Affine, scale: float) -> Affine:
    """Return the affine in millimetres.

    NIfTI stores float32: 0.001 m times 1000 would be 1.00000005 mm, a grid that differs from one of
    1 mm. So another unit is converted from the shortest decimal that float32 stores as this value.
    """
    if scale == 1:
        return np.array(affine, dtype=np.float64)
    decimals = [[float(str(value)) for value in row] for row in np.asarray(affine, np.float32)]
    converted = np.array(decimals)
    converted[:3] *= scale
    return np.round(converted, 9)


def _form_disagreement(
    header: Any, affine: Affine, shape: tuple[int, ...], scale: float
) -> str | None:
    """Compare sform and qform: notice if positions differ, refusal if sides differ."""
    if int(header["sform_code"]) == 0 or int(header["qform_code"]) == 0:
        return None
    try:
        qform = _scaled(header.get_qform(), scale)
    except (ValueError, HeaderDataError):  # its quaternion is longer than 1
        qform = np.full((4, 4), np.nan)
    if not np.isfinite(qform).all():
        return "its qform is damaged; the sform is used."
    same_side = (affine[0, :3] / spacing_mm(affine) ** 2) @ qform[0, :3] >= 0
    if not same_side or np.linalg.det(qform) * np.linalg.det(affine) < 0:
        raise GeometryError(
            found="an sform and a qform that disagree on which side is left",
            expected="one orientation",
            next_step="Convert the scan again from its DICOM files, or correct the header",
        )
    corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)], dtype=float)
    corners[:, :3] *= np.asarray(shape) - 1
    distance_mm = float(np.abs(corners @ (affine - qform).T).max())
    if distance_mm > max(1.0, float(spacing_mm(affine).max())):
        return f"sform and qform disagree by up to {distance_mm:.0f} mm; the sform is used."
    return None
