"""Volumes in files: NIfTI, and the formats beside it that nibabel or SimpleITK reads.

`open_volume` reads one file, `read` a folder, a BIDS session or one file as a study. A file whose
geometry is missing, or contradicts itself about the sides, is refused: no side is guessed.
"""

from __future__ import annotations

import bz2
import re
import struct
import zlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, cast

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray
from zlib_ng import gzip_ng, zlib_ng

from lesionlens.base import geometry
from lesionlens.base.errors import (
    GeometryError,
    LesionLensError,
    ReadError,
    UnusableInputError,
    replaced,
    unreadable,
)
from lesionlens.base.files import (
    FileState,
    file_state,
    is_nifti_name,
    is_volume_name,
    open_regular,
    read_json,
    without_volume_suffix,
)
from lesionlens.base.geometry import Affine, Shape3, check_affine, spacing_mm
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence, naming_advice
from lesionlens.base.records.patient import Patient, conflict_among, settle
from lesionlens.base.records.study import Series, SourceFile, Study, StudyKind
from lesionlens.base.scan_limits import check_size
from lesionlens.base.text import encodable
from lesionlens.imaging.reading import bids, sequences
from lesionlens.imaging.reading.open import (
    ListedStudy,
    ReadOptions,
    choose,
    named_path,
    nothing_recognised,
    refuse_several,
    relative_name,
    several_studies,
)

_BROKEN: tuple[type[Exception], ...] = (
    OSError, EOFError, ValueError, OverflowError, RuntimeError, zlib.error,
    cast("type[Exception]", zlib_ng.error),
    ImageFileError, HeaderDataError,
)  # fmt: skip
_MAX_OFFSET = 16 * 2**20
"""Bytes of header and extensions before the voxels."""
_TRAILING = 2**20
"""Bytes after the voxels that are read to reach the stream's end, where its checksum is."""
_MAX_LENGTH = 1.01
"""A quaternion up to this long is one of length 1 that was rounded, as ITK and FSL read it."""
_SIZES_DIFFER, _SHEAR = 0.005, 2e-3
"""Voxel sizes of sform and pixdim, relative, and cosine between axes, that a notice names."""
_UNIT_MM = {1: 1000.0, 3: 0.001}
"""NIfTI's codes of metre and micron; any other, undefined included, counts as millimetre."""
_AGAIN = "Convert the scan again from its DICOM files, for example with dcm2niix"
_NOT_READ = re.compile(r"\.(img|hdr|mgh|mnc|nhdr|par|rec|nii\.\w+)$", re.IGNORECASE)
_MAX_SIDECAR_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True)
class VolumeFile:
    """One volume in a file whose header was checked."""

    path: Path
    grid: Grid
    notices: tuple[str, ...]
    """What is odd about its geometry; the file is to be named before."""
    voxels: Callable[[Any], NDArray[Any]] = field(repr=False)
    """Reads them as this type, or None: in the stored type if the file has no scale."""
    codes: tuple[int, int] = (1, 1)
    """NIfTI's sform and qform code; scanner for other formats."""
    text: str = ""
    """NIfTI's `descrip`."""
    more_files: tuple[Path, ...] = ()
    """The file with the voxels of an `.mhd`."""
    opened: tuple[FileState, ...] = ()
    """State of the files when the header was read."""

    def load(self) -> NDArray[np.float32]:
        """Read the voxels as (I, J, K) float32 in scanner units; raises as `stored`."""
        return self.stored(np.float32)

    def stored(self, dtype: Any = None) -> NDArray[Any]:
        """Read the voxels in scanner units, (I, J, K).

        Raises
        ------
        ReadError
            Truncated, damaged, or replaced since its header was read: another image would be
            placed, and its sides named, by the old header.
        """
        try:
            if tuple(map(file_state, (self.path, *self.more_files))) != self.opened:
                raise replaced(self.path.name)
            return self.voxels(dtype).reshape(self.grid.shape)
        except _BROKEN as error:
            reason = _reason(error, self.path)
            raise ReadError(
                f"{self.path.name!r} is truncated or damaged: {reason}.",
                hint="Copy or download the file again, or convert the scan again",
            ) from error


def open_volume(path: Path, channel: int | None = None) -> VolumeFile:
    """Read the header of a file: NIfTI, plain or compressed, `.nrrd`, `.mha`, `.mhd` or `.mgz`.

    Parameters
    ----------
    channel : int or None
        Volume of a 4-D file, from 0.

    Raises
    ------
    ReadError, GeometryError
        Not one volume of grey values, or without a geometry that states the sides.
    """
    kinds = {".mgz": _mgz, ".nrrd": _itk, ".mha": _itk, ".mhd": _itk}
    try:
        opened = file_state(path)
        if not opened[0]:
            raise ReadError(f"{path.name!r} is empty, 0 bytes.", hint="Copy the scan again")
        volume = kinds.get(path.suffix.lower(), _nifti)(path, channel)
        states = (opened, *map(file_state, volume.more_files))
    except _BROKEN as error:
        reason = _reason(error, path)
        raise ReadError(
            f"The header of {path.name!r} is damaged or of another format: {reason}.", hint=_AGAIN
        ) from error
    shear = geometry.shear_of(volume.grid.affine)
    degrees = float(np.degrees(np.arcsin(min(shear, 1.0))))
    sheared = (f"the axes are {degrees:.2g}° off a right angle",) if shear > _SHEAR else ()
    return replace(volume, notices=(*volume.notices, *sheared), opened=states)


def _reason(error: Exception, path: Path) -> str:
    """Return a library's reason on one line; raise what the system itself refuses to read."""
    if isinstance(error, OSError) and error.errno is not None:
        raise unreadable(error, path.name) from error
    text = (str(error).strip().splitlines() or [type(error).__name__])[-1]
    return text.replace(str(path), path.name).split(" for file")[0][:120].rstrip(".")


def _shape_of(shape: Iterable[int], name: str, channel: int | None = None) -> Shape3:
    """Return the shape of the one volume in an array; refuse several, and what is no volume."""
    sides = tuple(int(n) for n in shape)
    if channel is not None:
        if len(sides) != 4 or channel >= sides[3]:
            raise ReadError(
                f"{name!r} has no volume {channel + 1} ({'x'.join(map(str, sides))} voxels).",
                hint="Correct the list of sequences, or the file",
            )
        sides = sides[:3]
    while len(sides) > 3 and sides[-1] == 1:
        sides = sides[:-1]
    if len(sides) > 3 and min(sides) > 0:
        raise ReadError(
            f"{name!r} holds {prod(sides[3:])} volumes in {len(sides)} dimensions (4-D).",
            hint="Split it (nibabel.four_to_three does) and name the volume to use",
        )
    check_size(sides, repr(name))
    return sides[0], sides[1], sides[2]


def _check_grey(is_grey: bool, found: str, name: str) -> None:
    if not is_grey:
        raise ReadError(
            f"The voxels of {name!r} are of {found} type, not grey values.",
            hint="Export the magnitude image in greyscale",
        )


# ---- NIfTI


def _nifti(path: Path, channel: int | None) -> VolumeFile:
    name = path.name
    with _unpacked(path) as stream:
        raw = stream.read(540)
    sizes: dict[int, Any] = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
    found = {struct.unpack(f"{order}i", raw[:4])[0] for order in "<>" if len(raw) >= 348}
    size = next((size for size in sizes if size in found), None)
    if size is None:
        raise ValueError("no NIfTI header at its beginning")
    header = sizes[size](raw[:size])
    stored_shape = header.get_data_shape()
    shape = _shape_of(stored_shape, name, channel)
    dtype, offset = header.get_data_dtype(), int(header.get_data_offset())
    kind = "colour (RGB)" if dtype.fields is not None else "complex or unsupported"
    _check_grey(dtype.kind in "iufb", kind, name)
    if not 0 <= offset <= _MAX_OFFSET:
        raise ReadError(
            f"The voxels of {name!r} begin at byte {offset} by its header: a damaged offset.",
            hint=_AGAIN,
        )
    scale = [float(header[field]) for field in ("scl_slope", "scl_inter")]
    if np.isinf(scale).any():  # nibabel ignores it; NaN means no scale by the standard
        raise ReadError(
            f"The scale in the header of {name!r} is not finite: slope {scale[0]}, intercept "
            f"{scale[1]}.",
            hint=_AGAIN,
        )
    slope, intercept = header.get_slope_inter()
    voxels = partial(
        _nifti_voxels, path, channel, (stored_shape, dtype, offset, slope or 1.0, intercept or 0.0)
    )
    unchecked = type(header)(raw[:size], check=False)  # the check makes a size of 0 one of 1
    pixdim = np.abs(unchecked["pixdim"][1:4].astype(np.float64))
    affine, notices = _nifti_affine(header, pixdim, shape, name)
    codes = int(header["sform_code"]), int(header["qform_code"])
    text = header["descrip"].item().decode("latin-1")
    return VolumeFile(path, Grid(shape, affine), notices, voxels, codes, text)


def _nifti_voxels(path: Path, channel: int | None, spec: Any, wanted: Any) -> NDArray[Any]:
    shape, dtype, offset, _, _ = spec
    with _unpacked(path) as stream:
        content = stream.read(offset + dtype.itemsize * prod(shape))
        stream.read(_TRAILING)
    return _taken(ArrayProxy(BytesIO(content), spec, mmap=False), channel, wanted)


def _taken(stored: Any, channel: int | None, wanted: Any) -> NDArray[Any]:
    return np.asanyarray(stored if channel is None else stored[..., channel], dtype=wanted)


def _unpacked(path: Path) -> BinaryIO:
    """Open a file for reading what it holds before compression, by its first bytes."""
    with open_regular(path) as stream:
        magic = stream.read(4)
    if magic.startswith(b"\x1f\x8b"):
        return cast("BinaryIO", gzip_ng.open(path, "rb"))
    if magic.startswith(b"BZh"):
        return cast("BinaryIO", bz2.open(path, "rb"))
    if path.suffix.lower() != ".zst":
        return path.open("rb")
    for module in ("compression.zstd", "backports.zstd"):
        with suppress(ImportError):
            return cast("BinaryIO", import_module(module).open(path, "rb"))
    raise ReadError(
        f"{path.name!r} is compressed by Zstandard, which is not installed.",
        hint="Decompress it (zstd -d), or run `pip install backports.zstd`",
    )


def _nifti_affine(
    header: Any, pixdim: NDArray[Any], shape: Shape3, name: str
) -> tuple[Affine, tuple[str, ...]]:
    """Return the sform, else the qform, in mm, and what is odd about them; refuse two sides."""
    if not header["sform_code"] and not header["qform_code"]:
        raise GeometryError(
            f"{name!r} does not state its orientation: the codes of sform and qform are both 0.",
            hint=_AGAIN,
        )
    quaternion = np.array([float(header[f"quatern_{axis}"]) for axis in "bcd"])
    length = float(np.linalg.norm(quaternion))
    if 1 < length <= _MAX_LENGTH:
        for axis, value in zip("bcd", quaternion / length * (1 - 1e-12), strict=True):
            header[f"quatern_{axis}"] = value
    unit_mm = _UNIT_MM.get(int(header["xyzt_units"]) & 7, 1.0)
    if not header["sform_code"]:
        return check_affine(_in_mm(header.get_qform(), unit_mm), where=repr(name)), ()
    affine = check_affine(_in_mm(header.get_sform(), unit_mm), where=repr(name))
    notices = _size_notice(affine, pixdim * unit_mm)
    if not header["qform_code"]:
        return affine, notices
    try:
        qform = check_affine(_in_mm(header.get_qform(), unit_mm), where=repr(name))
    except (ValueError, HeaderDataError, GeometryError):
        return affine, (*notices, "the qform is damaged; the sform is used")
    same_side = (affine[0, :3] / spacing_mm(affine) ** 2) @ qform[0, :3] >= 0
    if not same_side or np.linalg.det(qform) * np.linalg.det(affine) < 0:
        raise GeometryError(
            f"The sform and the qform of {name!r} disagree on which side is left.",
            hint=f"{_AGAIN}, or correct the header",
        )
    ends = np.c_[geometry.corners((0, 0, 0), np.array(shape) - 1), np.ones(8)]
    distance_mm = float(np.abs(ends @ (affine - qform).T).max())
    if not notices and distance_mm > max(1.0, float(spacing_mm(affine).max())):
        notices = (f"sform and qform disagree by up to {distance_mm:.0f} mm; the sform is used",)
    return affine, notices


def _size_notice(affine: Affine, pixdim_mm: NDArray[Any]) -> tuple[str, ...]:
    """Return a notice if the header states two voxel sizes: one of them gives wrong volumes."""
    edges = spacing_mm(affine)
    if not np.isfinite(pixdim_mm).all() or pixdim_mm.min() < 1e-6:
        return ()  # none stated
    if np.allclose(edges, pixdim_mm, rtol=_SIZES_DIFFER, atol=1e-4):
        return ()
    by_sform, by_pixdim = (" x ".join(f"{n:.4g}" for n in sizes) for sizes in (edges, pixdim_mm))
    ratio = float(edges.prod() / pixdim_mm.prod())
    wrong = f"{ratio:.2g} times too large" if ratio > 1 else f"{1 / ratio:.2g} times too small"
    return (
        f"the sform states voxels of {by_sform} mm, pixdim {by_pixdim} mm; the sform is used, "
        f"so that volumes may be {wrong}",
    )


def _in_mm(affine: Affine, unit_mm: float) -> Affine:
    """Return an affine in mm.

    NIfTI stores float32: 0.001 m times 1000 would be 1.00000005 mm, a grid that differs from one of
    1 mm. So another unit is converted from the shortest decimal that float32 stores as this value.
    """
    if unit_mm == 1:
        return np.array(affine, dtype=np.float64)
    converted = np.array([[float(str(n)) for n in row] for row in np.asarray(affine, np.float32)])
    converted[:3] *= unit_mm
    return np.round(converted, 9)


# ---- other formats


def _mgz(path: Path, channel: int | None) -> VolumeFile:
    image = nib.MGHImage.from_filename(path, mmap=False)
    shape = _shape_of(image.shape, path.name, channel)
    with _unpacked(path) as stream:
        if not struct.unpack_from(">h", stream.read(30), 28)[0]:  # nibabel would take a default
            raise _without_geometry(path)
    voxels = partial(_taken, image.dataobj, channel)
    return VolumeFile(path, Grid(shape, image.affine), (), voxels)


def _itk(path: Path, channel: int | None) -> VolumeFile:
    """Read by ITK, which takes a missing geometry for that of the axes: it must be stated."""
    import SimpleITK as sitk

    with open_regular(path) as stream:
        text = stream.read(2**16).split(b"\n\n")[0].decode("latin-1").lower()
    stated = dict(re.findall(r"^(\w[\w ]*?) *[:=]+ *(.+?)\s*$", text, re.MULTILINE))
    needed: list[tuple[str, ...]] = [("space directions",), ("space origin",)]
    if path.suffix.lower() != ".nrrd":
        needed = [("transformmatrix", "orientation", "rotation"), ("offset", "position", "origin")]
    elif not stated.get("space", "").startswith(("left", "right", "lps", "ras", "las")):
        raise _without_geometry(path)
    if not all(any(name in stated for name in names) for names in needed):
        raise _without_geometry(path)
    data = stated.get("elementdatafile") or stated.get("data file") or stated.get("datafile")
    more: tuple[Path, ...] = ()
    if data not in (None, "local"):
        beside = filter(Path.is_file, path.parent.iterdir())
        more = tuple(file for file in beside if file.name.lower() == data)
        if len(more) != 1:  # a list, a pattern, or a file elsewhere
            raise ReadError(f"The voxels of {path.name!r} are not in one file beside it.")
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    shape, size = _shape_of(reader.GetSize(), path.name, channel), reader.GetDimension()
    kind = sitk.GetPixelIDValueAsString(reader.GetPixelID())
    _check_grey(reader.GetNumberOfComponents() == 1 and "complex" not in kind, kind, path.name)
    lps = np.eye(4)
    turn = np.reshape(reader.GetDirection(), (size, size))[:3, :3]
    lps[:3, :3], lps[:3, 3] = turn * reader.GetSpacing()[:3], reader.GetOrigin()[:3]
    grid, voxels = Grid(shape, geometry.ras_from_lps(lps)), partial(_itk_voxels, path, channel)
    return VolumeFile(path, grid, (), voxels, more_files=more)


def _itk_voxels(path: Path, channel: int | None, wanted: Any) -> NDArray[Any]:
    import SimpleITK as sitk

    return _taken(sitk.GetArrayFromImage(sitk.ReadImage(str(path))).T, channel, wanted)


def _without_geometry(path: Path) -> GeometryError:
    return GeometryError(
        f"{path.name!r} does not state its position and orientation in the patient.", hint=_AGAIN
    )


# ---- studies


def is_volume(path: Path) -> bool:
    """Return whether a path is a regular file with the extension of a volume."""
    return is_volume_name(path.name) and path.is_file()


def walk(folder: Path) -> Iterator[Path]:
    """Yield the volumes below a folder in a stable order; links to folders are not followed."""
    for base, names in bids.walk_folders(folder):
        visible = (base / name for name in names if not name.startswith("."))
        yield from filter(is_volume, visible)


def claims(path: Path) -> float:
    """Return 1 for a volume, 0.9 for a folder with one at any depth, else 0."""
    if path.is_file():
        return 1.0 if is_volume(path) else 0.0
    return 0.9 if next(walk(path), None) else 0.0


def read(path: Path, named: Mapping[MrSequence, str], options: ReadOptions) -> Study:
    """Read the headers of a folder, a BIDS session or one file; see `open.open_study`."""
    root = path if path.is_dir() else path.parent
    files = all_files = options.files(path, walk)
    if not all(item.is_file() for item in options.selected_paths or (path,)):
        files = _one_study(files, root, options.study_uid)
    notices: list[str] = []
    named_paths = _named_files(named, root)
    named_series = {s: series_of_file(p, root, s, notices) for s, p in named_paths.items()}
    resolved = {item.resolve() for item in named_paths.values()}
    detected = []
    for number, file in enumerate(f for f in files if f.resolve() not in resolved):
        options.context.check("opening the study")
        options.context.progress("open", number / len(files))
        detected += _detected(file, root, notices)
    chosen, set_aside, choice_notices = choose(detected, named_series)
    if path.is_dir() and not options.selected_paths:
        notices += _unread(root, files, all_files, chosen)
    chosen_files = [series.files[0].path for series in chosen.values()]
    patients = patients_of(chosen_files)
    confirmed = settle(
        conflict_among(patients, gaps=False),
        "these scans (by their sidecars or BIDS names)",
        confirmed=options.same_patient,
        advice="Open each patient's folder separately",
        patients=patients,
    )
    names = [file.name for file in chosen_files]
    study = Study(
        name=bids.name_of(names) or encodable(path.name or path.resolve().name),
        kind=StudyKind.NIFTI,
        series=chosen,
        root=path,
        set_aside=set_aside,
        patient=next(iter(patients), Patient()),
        notices=tuple(
            filter(None, (bids.mixed_names(names), confirmed, *choice_notices, *notices))
        ),
        selected=options.study_uid,
    )
    if not chosen:
        raise nothing_recognised(study)
    refuse_several(detected, named_series, study)
    return study


def _one_study(files: list[Path], root: Path, requested: str | None) -> list[Path]:
    """Return the files of the only study, or of the one that the user selected.

    Files directly in the folder are the study; deeper ones count only if there are none, and each
    of their folders, or BIDS session, is a study.
    """
    groups: dict[str, list[Path]] = defaultdict(list)
    for path in [path for path in files if path.parent == root] or files:
        subject, session = bids.entities(path.name)
        name = f"sub-{subject}" + (f"/ses-{session}" if session else "")
        folder = encodable(path.parent.relative_to(root).as_posix())
        groups[name if subject else folder].append(path)
    if requested is not None and requested in groups:
        return groups[requested]
    if len(groups) == 1 and requested in (None, "."):
        return next(iter(groups.values()))
    counts = {name: len(paths) for name, paths in groups.items()}
    listed = [ListedStudy(name, StudyKind.NIFTI, "", "", n, n) for name, n in counts.items()]
    raise several_studies(listed, requested)


def _named_files(named: Mapping[MrSequence, str], root: Path) -> dict[MrSequence, Path]:
    files: dict[MrSequence, Path] = {}
    for sequence, value in named.items():
        path = named_path(value, root, sequence)
        if path is None or not path.is_file():
            what = "a folder" if path is not None and path.is_dir() else "no file"
            raise UnusableInputError(
                f"--{sequence.value} names {what}: {Path(value).name!r}.",
                hint="Name a file by its path, or by its path within the study; to add files to a "
                "DICOM study, open the DICOM folder",
            )
        taken = next((s for s, p in files.items() if p.resolve() == path.resolve()), None)
        if taken is not None:
            raise UnusableInputError(
                f"--{taken.value} and --{sequence.value} name the same file: {path.name!r}.",
                hint="Choose another file for one of them",
            )
        files[sequence] = path
    return files


def series_of_file(path: Path, root: Path, sequence: MrSequence, notices: list[str]) -> Series:
    """Read the file that the user named as a sequence; add the notices of its header."""
    guess = sequences.Guess(sequence, f"--{sequence.value}, named by the user", 1.0)
    return _series(path, root, guess, notices)


def _detected(path: Path, root: Path, notices: list[str]) -> list[Series]:
    """Read one file of a folder; none, with a notice, if it is not readable and not needed."""
    guess, doubt = sequences.from_file(path.name, read_sidecar(path, notices))
    notices += [doubt] if doubt else []
    if not is_nifti_name(path.name):  # a copy of a NIfTI file, if there is one
        guess = replace(guess, confidence=max(guess.confidence - 0.1, 0.0))
    try:
        return [_series(path, root, guess, notices)]
    except LesionLensError as error:
        if guess.sequence is not None and is_nifti_name(path.name):
            raise
        notices.append(f"{error.sentence} The file was left out.")
        return []


def _series(path: Path, root: Path, guess: sequences.Guess, notices: list[str]) -> Series:
    volume = open_volume(path)
    name = repr(encodable(path.name))
    for text in volume.notices:
        earlier = next((n for n in notices if n.endswith(f": {text}.")), None)
        if earlier is None:
            notices.append(f"{name}: {text}.")
        else:  # one sentence for all files
            notices[notices.index(earlier)] = f"{name}, {earlier}"
    files = (path, *volume.more_files)
    return Series(
        sequence=guess.sequence,
        detected_by=guess.evidence,
        confidence=guess.confidence,
        grid=volume.grid,
        files=tuple(SourceFile(file, relative_name(file, root)) for file in files),
        load=volume.load,
        description=encodable(path.name),
        nifti_codes=volume.codes,
    )


def _unread(
    root: Path, files: Sequence[Path], all_files: Iterable[Path], chosen: Collection[MrSequence]
) -> list[str]:
    """Return a notice for each file that is not read, but named as a sequence that is absent."""
    absent: dict[MrSequence, str] = {}

    def note(path: Path, reason: str) -> None:
        sequence = sequences.from_name(path.name.rpartition(".")[0]).sequence
        if sequence is not None and sequence not in chosen:
            text = f"{relative_name(path, root)!r} was not read, because {reason}"
            absent.setdefault(sequence, f"{text}; to use another file, {naming_advice(sequence)}.")

    for folder in sorted({file.parent for file in files}):
        for path in sorted(p for p in folder.iterdir() if not p.name.startswith(".")):
            if _NOT_READ.search(path.name) and not is_volume_name(path.name):
                note(path, "its format is not read: convert it to NIfTI")
            elif is_volume_name(path.name) and not path.exists():
                note(path, "it is a link to a file that does not exist")
    if all(file.parent == root for file in files):
        for path in all_files:
            if path.parent != root:
                note(path, "the folder itself contains images")
    return list(absent.values())


def read_sidecar(path: Path, notices: list[str]) -> Mapping[str, Any]:
    """Return the JSON sidecar of a file; empty if missing or, with a notice, invalid."""
    sidecar = path.with_name(f"{without_volume_suffix(path.name)}.json")
    try:
        content = read_json(sidecar, _MAX_SIDECAR_BYTES) if sidecar.exists() else {}
    except (OSError, ValueError, ReadError):
        content = {}
        notices.append(f"The JSON sidecar of {path.name!r} could not be read and was ignored.")
    return content if isinstance(content, dict) else {}


def patients_of(files: Iterable[Path]) -> list[Patient]:
    """Return the patients stated by sidecars and BIDS names, for files that state any."""
    patients = []
    for path in files:
        patient = Patient.of(read_sidecar(path, []))
        subject, _ = bids.entities(path.name)
        patients.append(replace(patient, id=f"sub-{subject}", issuer="") if subject else patient)
    return [patient for patient in patients if patient.known]
