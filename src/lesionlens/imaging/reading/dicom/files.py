"""DICOM files: read them without trusting them, and list the MR image planes of a folder.

`scan` reads the headers of a folder, without pixels; `read_dicom` reads one file. A DICOMDIR is not
followed: the files below the folder are read themselves.
"""

from __future__ import annotations

import filecmp
import struct
import warnings
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_partial
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from lesionlens.base.codes import MANUFACTURER
from lesionlens.base.errors import ReadError, unreadable
from lesionlens.base.files import open_regular
from lesionlens.base.records.patient import Patient, PatientField
from lesionlens.base.run_context import RunContext
from lesionlens.base.text import LINE_BREAKS
from lesionlens.imaging.reading import bids

CLASSIC_MR = "1.2.840.10008.5.1.4.1.1.4"
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
LEGACY_CONVERTED_MR = "1.2.840.10008.5.1.4.1.1.4.4"
MULTI_FRAME = frozenset({ENHANCED_MR, LEGACY_CONVERTED_MR})
MR_IMAGES = frozenset({CLASSIC_MR, *MULTI_FRAME})
MAX_BYTES = 512 * 2**20
"""Largest inflated size of a deflated file."""
DAMAGED = (
    InvalidDicomError, EOFError, ValueError, KeyError, AttributeError, TypeError,
    NotImplementedError, MemoryError, OverflowError, RecursionError, BytesLengthException,
    struct.error, ReadError,
)  # fmt: skip
"""What an invalid DICOM file raises, here or when a value is decoded. Any other OSError is the
system's: the file is missing or not readable."""
_DICOMDIR = "1.2.840.10008.1.3.10"
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_KEYWORDS = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID",
    "StudyDate", "StudyTime", "StudyDescription", "Modality", "ImageType", *PatientField,
    "SeriesDescription", "ProtocolName", "ScanningSequence", "EchoPulseSequence",
    "EchoPlanarPulseSequence", "RepetitionTime", "EchoTime", "EffectiveEchoTime", "InversionTime",
    "InversionTimes", "EchoNumbers", "ContrastBolusAgent", "ContrastBolusAgentSequence",
    "ContrastBolusAgentAdministered", "SeriesNumber", "AcquisitionNumber", "InstanceNumber",
    "TemporalPositionIdentifier", "TemporalPositionIndex", "TriggerTime", "AcquisitionTime",
    "AcquisitionDate", "AcquisitionDateTime", "FrameAcquisitionNumber", "FrameReferenceDateTime",
    "FrameAcquisitionDateTime", "StackID", "FrameType", "DimensionIndexValues",
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness",
    "SpacingBetweenSlices", "Rows", "Columns", "SamplesPerPixel", "NumberOfFrames", "RescaleSlope",
    "RescaleIntercept", "Manufacturer", "ComplexImageComponent", "SpecificCharacterSet",
    "BodyPartExamined", "PhotometricInterpretation", "BitsStored", "HighBit",
    "ModalityLUTSequence", "LossyImageCompression",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
)  # fmt: skip
_KEYWORD_OF = {int(Tag(keyword)): keyword for keyword in _KEYWORDS}  # pydicom's own compare slowly
_PRIVATE = {0x0043102F: "GEComponent", 0x2005100E: "PhilipsScale"}
_TAGS = [*_KEYWORD_OF, *_PRIVATE]
_CHARSET, _PIXELS = Tag("SpecificCharacterSet"), int(Tag("FloatPixelData"))
_GEOMETRY = (
    "StudyInstanceUID", "SeriesInstanceUID", "Rows", "Columns", "NumberOfFrames", "PixelSpacing",
    "ImagePositionPatient", "ImageOrientationPatient", "RescaleSlope", "RescaleIntercept",
)  # fmt: skip


def walk(folder: Path) -> Iterator[Path]:
    """Yield regular files below a folder in a stable order; links to folders are not followed."""
    for base, names in bids.walk_folders(folder):
        yield from (path for name in names if (path := base / name).is_file())


def looks_like_dicom(path: Path) -> bool:
    """Return whether a file starts like DICOM, with or without preamble."""
    try:
        with open_regular(path) as stream:
            return _is_dicom(stream.read(136))
    except (OSError, ReadError):
        return False


def _is_dicom(head: bytes) -> bool:
    """Accept the preamble, or group 0002 or 0008 in little endian and a plausible element."""
    if head[128:132] == b"DICM":
        return True
    if head[:2] not in (b"\x02\x00", b"\x08\x00") or head[3:4] != b"\x00":
        return False
    next_at = 8 + int.from_bytes(head[4:8], "little")  # if implicit
    group, element = head[next_at : next_at + 2], head[next_at + 2 : next_at + 4]
    is_implicit = head[:2] == group == b"\x08\x00" and head[2:4][::-1] < element[::-1]
    return head[4:6].isalpha() or is_implicit


def sop_class(path: Path) -> str:
    """Return the SOP Class UID in a file's meta header, empty if there is none."""
    try:
        return str(read_meta(path).get("MediaStorageSOPClassUID", ""))
    except (OSError, *DAMAGED):
        return ""


def read_meta(path: Path) -> Any:
    """Read only a file's meta header (group 0002); raises what `read_dicom` raises."""
    with _opened(path):
        return pydicom.filereader.read_file_meta_info(path)


def read_dicom(path: Path, **options: Any) -> Any:
    """Read a file like `pydicom.dcmread`, also without preamble, if it is a regular DICOM file.

    Raises
    ------
    Those of `DAMAGED`
        Not a regular file, not DICOM, damaged, or inflates to more than `MAX_BYTES`.
    OSError
        The system does not read it.
    """
    with _opened(path) as (file, has_preamble):
        data = pydicom.dcmread(file, force=not has_preamble, **options)
    if "TransferSyntaxUID" not in data.file_meta:
        implicit, little = data.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    data.buffer, data.filename = None, str(path)
    return data


@contextmanager
def quiet_header(path: Path, **options: Any) -> Iterator[Any]:
    """Read a header without pixels; no value that is decoded within the block gives a warning."""
    with warnings.catch_warnings(action="ignore"):
        yield read_dicom(path, stop_before_pixels=True, **options)


def is_of(uid: str | None, header: Any) -> bool:
    """Return whether a header is still that of the image with a UID (True if it had none)."""
    return not uid or str(header.get("SOPInstanceUID") or "").strip() == uid


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, bool]]:
    """Open a DICOM file for pydicom, with whether it has a preamble.

    pydicom raises OSError for a truncated stream: here it is ValueError.
    """
    try:
        with open_regular(path) as file, warnings.catch_warnings(action="ignore"):
            head = file.read(4096)
            if not _is_dicom(head[:136]):
                raise InvalidDicomError("not DICOM")
            if _DEFLATED in head:
                _check_inflated(file, head)
            file.seek(0)
            yield file, head[128:132] == b"DICM"
    except OSError as error:
        if error.errno is None:
            raise ValueError(str(error)) from error
        raise


def _check_inflated(file: BinaryIO, head: bytes) -> None:
    """Refuse a deflated file that pydicom would inflate to more than `MAX_BYTES` of memory."""
    file.seek(144 + int.from_bytes(head[140:144], "little"))
    inflater, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    try:
        while block := inflater.unconsumed_tail or file.read(2**20):
            size += len(inflater.decompress(block, 2**20))
            if size > MAX_BYTES:
                raise ValueError(f"inflates to more than {MAX_BYTES // 10**6} MB")
            if inflater.eof:
                return
    except zlib.error as error:
        raise ValueError(f"a damaged deflated stream ({error})") from error


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One plane: a single-frame image, a frame of a multi-frame image, or a tile of a mosaic."""

    path: Path
    values: Mapping[str, Any]
    """Decoded attributes by keyword, of a multi-frame image those of the frame's functional groups
    first. Invalid ones are absent; `GEComponent` and `PhilipsScale` are raw bytes."""
    number: int | None = None
    """Frame number from 1 in a multi-frame file."""
    tile: int | None = None
    """Index from 0 in a Siemens mosaic."""

    def text(self, keyword: str) -> str:
        """Return an attribute as text on one line, empty if it is absent."""
        value = self.values.get(keyword)
        return "" if value is None else str(value).translate(LINE_BREAKS).strip()

    def texts(self, keyword: str) -> tuple[str, ...]:
        """Return a multi-valued attribute as upper-case text."""
        return tuple(str(part).strip().upper() for part in _parts(self.values.get(keyword)))

    def numbers(self, keyword: str) -> tuple[float, ...]:
        """Return an attribute's numbers; empty if it is absent or any is not a finite number."""
        try:
            numbers = tuple(map(float, _parts(self.values.get(keyword))))
        except (ValueError, TypeError, OverflowError):
            return ()
        return numbers if all(map(isfinite, numbers)) else ()

    def number_of(self, keyword: str) -> float | None:
        """Return an attribute as one number, None if it is absent or anything else."""
        numbers = self.numbers(keyword)
        return numbers[0] if len(numbers) == 1 else None

    @property
    def uid(self) -> str:
        """SOP Instance UID."""
        return self.text("SOPInstanceUID")

    @property
    def patient(self) -> Patient:
        """The patient attributes of the header."""
        known = self.values.get("Patient")
        return known if isinstance(known, Patient) else Patient.of(self.values)


def _parts(value: Any) -> Iterable[Any]:
    if value is None:
        return ()
    return value if isinstance(value, Iterable) and not isinstance(value, str | bytes) else (value,)


@dataclass(slots=True)
class Scan:
    """The DICOM content of a folder."""

    frames: list[Frame] = field(default_factory=list)
    """Planes of usable MR images, each SOP Instance once."""
    copies: list[Frame] = field(default_factory=list)
    """Further files of these images that name another patient."""
    set_aside: Counter[str] = field(default_factory=Counter)
    """Reasons why MR images are not used."""
    contradictions: dict[str, tuple[Path, Path]] = field(default_factory=dict)
    """Two files with one SOP Instance UID and different images, by Series Instance UID."""
    other_kinds: Counter[str] = field(default_factory=Counter)
    """Other DICOM files by kind."""
    files: int = 0
    nifti_files: int = 0
    unusable_files: int = 0
    """Empty and damaged files."""
    reported_studies: set[str] = field(default_factory=set)
    """Study Instance UIDs of LesionLens reports."""


def scan(files: list[Path], context: RunContext) -> Scan:
    """Read the headers of all DICOM files among files of any kind."""
    content, images, decoded = Scan(), dict[str, Frame](), dict[Any, Any]()
    mosaics: dict[Any, list[dict[str, Any]]] = {}
    with warnings.catch_warnings(action="ignore"):  # invalid values are left out
        for number, path in enumerate(files):
            if number % 50 == 0:
                context.check("opening the study")
                context.progress("open", number / len(files))
            if path.name.lower().endswith((".nii", ".nii.gz")):
                content.nifti_files += 1
                continue
            try:
                with _opened(path) as (file, has_preamble):
                    options = {"force": not has_preamble, "specific_tags": _TAGS}
                    header = read_partial(file, lambda tag, *_: int(tag) >= _PIXELS, **options)
                content.files += 1
                _add(Frame(path, _values(header, decoded)), header, content, images, mosaics)
            except InvalidDicomError:
                is_empty = not path.name.startswith(".") and not path.stat().st_size
                content.unusable_files += is_empty
            except DAMAGED as error:
                content.files += 1
                content.unusable_files += 1
                content.other_kinds[f"damaged DICOM file ({error})"[:120]] += 1
            except OSError as error:
                raise unreadable(error, path.name) from error
    return content


def _values(header: Any, decoded: dict[Any, Any]) -> dict[str, Any]:
    """Return the needed attributes; equal bytes are decoded once, since decoding is slow."""
    values: dict[str, Any] = {}
    charset = str(getattr(header.get_item(_CHARSET), "value", ""))
    for tag, element in list(header.items()):
        number = int(tag)
        if (keyword := _KEYWORD_OF.get(number)) is None:
            if number in _PRIVATE:
                values[_PRIVATE[number]] = element.value
        elif not isinstance(element, RawDataElement) or element.VR == "SQ":
            values[keyword] = header[tag].value
        else:
            key = (number, element.VR, element.value, charset, element.is_little_endian)
            if key not in decoded:
                try:
                    decoded[key] = header[tag].value
                except DAMAGED:
                    decoded[key] = None
            values[keyword] = decoded[key]
    patient = tuple(str(values.get(attribute)) for attribute in PatientField)
    if patient not in decoded:
        decoded[patient] = Patient.of(values)
    return {**values, "Patient": decoded[patient]}


def _add(
    item: Frame, header: Any, content: Scan, images: dict[str, Frame], mosaics: dict[Any, Any]
) -> None:
    """Add the planes of an image, or count why it is not used."""
    kind = item.text("SOPClassUID") or str(header.file_meta.get("MediaStorageSOPClassUID", ""))
    if kind not in MR_IMAGES:
        content.unusable_files += not kind
        name = UID(kind).name if kind else "DICOM file without a SOP class"
        name = "DICOMDIR, whose images were not found" if kind == _DICOMDIR else name
        modality = item.text("Modality")
        content.other_kinds[f"{name} (modality {modality})" if modality else str(name)] += 1
        if (modality, item.text("Manufacturer")) == ("SR", MANUFACTURER):
            content.reported_studies.add(item.text("StudyInstanceUID"))
        return
    if (first := images.get(item.uid)) is not None and item.uid:
        if first.patient.compared(item.patient).conflicts:
            content.copies.append(item)
        if not is_same_image(first, item):
            for copy in (first, item):
                content.contradictions[copy.text("SeriesInstanceUID")] = (first.path, item.path)
        return
    images[item.uid] = item
    if (problem := _problem(item, kind)) is not None:
        content.set_aside[f'"{item.text("SeriesDescription")}": {problem}'] += 1
    elif kind in MULTI_FRAME:
        content.frames += _frames(item)
    elif any("MOSAIC" in text for text in item.texts("ImageType")):
        content.frames += _tiles(item, mosaics)
    else:
        content.frames.append(item)


def _problem(item: Frame, kind: str) -> str | None:
    """Return why an MR image cannot be used, or None."""
    for keyword in ("SeriesInstanceUID", "StudyInstanceUID", "SOPInstanceUID"):
        if not item.text(keyword):
            return f"no {keyword}: the image cannot be identified"
    rows, columns = item.number_of("Rows") or 0, item.number_of("Columns") or 0
    if rows < 1 or columns < 1:
        return f"an image size of {rows:.0f} rows and {columns:.0f} columns"
    if (item.number_of("SamplesPerPixel") or 1) != 1:
        return "colour (RGB) pixels: more than one sample per pixel"
    if item.text("PhotometricInterpretation") not in ("", "MONOCHROME2"):
        photometric = item.text("PhotometricInterpretation")
        return f"inverted grey values or colour indices ({photometric})"
    if item.values.get("ModalityLUTSequence"):
        return "stored values that need a lookup table (Modality LUT Sequence)"
    bits, highest = item.number_of("BitsStored"), item.number_of("HighBit")
    if bits is not None and highest is not None and highest != bits - 1:
        return f"{bits:.0f} stored bits with high bit {highest:.0f} (retired)"
    frames = item.number_of("NumberOfFrames") or 0
    if kind == CLASSIC_MR:
        return f"{frames:.0f} frames in a single-frame MR image" if frames > 1 else None
    positions = len(item.values.get("PerFrameFunctionalGroupsSequence") or ())
    if frames == positions and positions:
        return None
    return f"{frames:.0f} frames, but {positions} positions (NumberOfFrames is wrong)"


def is_same_image(first: Frame, second: Frame) -> bool:
    """Return whether two files are identical, or identical in geometry, scale and pixels."""
    if filecmp.cmp(first.path, second.path, shallow=False):
        return True
    if any(str(first.values.get(key)) != str(second.values.get(key)) for key in _GEOMETRY):
        return False
    try:
        one, other = (read_dicom(item.path) for item in (first, second))
        groups = (d.get("PerFrameFunctionalGroupsSequence") for d in (one, other))
        same_frames = next(groups) == next(groups)
        return same_frames and np.array_equal(one.pixel_array, other.pixel_array)
    except DAMAGED:
        return False


def _frames(image: Frame) -> Iterator[Frame]:
    """Yield the planes of a multi-frame image with the values of their functional groups."""
    own = {k: v for k, v in image.values.items() if not k.endswith("FunctionalGroupsSequence")}
    for groups in image.values.get("SharedFunctionalGroupsSequence") or ():
        own |= _group_values(groups)
    for number, groups in enumerate(image.values["PerFrameFunctionalGroupsSequence"], 1):
        yield Frame(image.path, {**own, **_group_values(groups)}, number)


def _group_values(groups: Any) -> dict[str, Any]:
    """Return attributes one level down, without private groups, which may hold another header."""
    values: dict[str, Any] = {}
    for element in groups:
        wanted = _PRIVATE if element.tag.is_private else _KEYWORD_OF
        for item in (element.value or ())[:1] if element.VR == "SQ" else ():
            for tag in item.keys() & wanted.keys():
                with suppress(*DAMAGED):
                    raw = item.get_item(tag) if element.tag.is_private else item[tag]
                    if raw.value is not None:
                        values[wanted[tag]] = raw.value
    return values


def _tiles(image: Frame, known: dict[Any, list[dict[str, Any]]]) -> Iterator[Frame]:
    """Yield the slices of a Siemens mosaic, placed by nibabel; without a position if it cannot.

    The number and direction of its slices stand in a private header alone, which is read once for
    mosaics of equal geometry.
    """
    keys = ("SeriesInstanceUID", *_GEOMETRY[2:8], "SliceThickness", "SpacingBetweenSlices")
    if (key := tuple(map(image.text, keys))) not in known:
        from nibabel.nicom.dicomwrappers import MosaicWrapper, wrapper_from_data

        known[key] = [{"ImagePositionPatient": None}]
        with suppress(Exception):  # whatever a private header does to its parser
            mosaic = wrapper_from_data(read_dicom(image.path, stop_before_pixels=True))
            if isinstance(mosaic, MosaicWrapper):
                rows, columns, count = map(int, mosaic.image_shape)
                step = np.asarray(mosaic.slice_normal, float) * float(mosaic.voxel_sizes[2])
                first, size = mosaic.image_position, {"Rows": rows, "Columns": columns}
                known[key] = [
                    {"ImagePositionPatient": list(first + index * step), **size}
                    for index in range(count)
                ]
    for index, place in enumerate(known[key]):
        yield Frame(image.path, {**image.values, **place}, None, index)
