"""Find DICOM files in a folder and read the header elements that are needed, without pixels.

A DICOMDIR only names the images that should be there: the files below the folder are read
themselves, so that it can neither refer to other folders nor hide files.
"""

from __future__ import annotations

import filecmp
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import UID

from lesionlens.base.codes import MANUFACTURER
from lesionlens.base.errors import ReadError, unreadable
from lesionlens.base.files.nifti_names import is_nifti_name
from lesionlens.base.records.patient import Patient, PatientField
from lesionlens.base.run_context import RunContext
from lesionlens.base.text import LINE_BREAKS
from lesionlens.imaging.reading import bids
from lesionlens.imaging.reading.dicom.bounded import DAMAGED, TooLargeError, read_dicom, read_meta

CLASSIC_MR = "1.2.840.10008.5.1.4.1.1.4"
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
LEGACY_CONVERTED_MR = "1.2.840.10008.5.1.4.1.1.4.4"
MULTI_FRAME = frozenset({ENHANCED_MR, LEGACY_CONVERTED_MR})
MR_IMAGES = frozenset({CLASSIC_MR, *MULTI_FRAME})
DICOMDIR_CLASS = "1.2.840.10008.1.3.10"
GE_COMPONENT = (0x0043, 0x102F)
PHILIPS_SCALE = (0x2005, 0x100E)
"""Scale slope from displayed to measured values."""

_KEYWORDS = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID",
    "StudyDate", "StudyDescription", "Modality", "ImageType", *PatientField,
    "SeriesDescription", "ProtocolName", "ScanningSequence", "EchoPulseSequence",
    "EchoPlanarPulseSequence", "RepetitionTime", "EchoTime", "InversionTime", "EchoNumbers",
    "ContrastBolusAgent", "ContrastBolusAgentSequence",
    "SeriesNumber", "AcquisitionNumber", "InstanceNumber",
    "TemporalPositionIdentifier", "TriggerTime", "AcquisitionTime", "ImagePositionPatient",
    "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "SpacingBetweenSlices",
    "Rows", "Columns",
    "SamplesPerPixel", "NumberOfFrames", "RescaleSlope", "RescaleIntercept", "Manufacturer",
    "ComplexImageComponent", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
    "SpecificCharacterSet", "BodyPartExamined", "AcquisitionDate", "AcquisitionDateTime",
    "PhotometricInterpretation", "BitsStored", "HighBit", "ModalityLUTSequence",
    "LossyImageCompression",
)  # fmt: skip
_IMAGE_KEYWORDS = (
    "StudyInstanceUID", "SeriesInstanceUID", "Rows", "Columns", "NumberOfFrames", "PixelSpacing",
    "ImagePositionPatient", "ImageOrientationPatient", "RescaleSlope", "RescaleIntercept",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
)  # fmt: skip
_TAGS = [*_KEYWORDS, GE_COMPONENT, PHILIPS_SCALE]


@dataclass(frozen=True, slots=True, eq=False)
class DicomSlice:
    """One plane: a single-frame image, or one frame of a multi-frame image."""

    path: Path
    header: Any
    """Pydicom Dataset without pixels, with the needed elements only."""
    frame: int | None = None
    """Frame index from 0 in a multi-frame file."""
    groups: tuple[Any, ...] = ()
    """The frame's functional groups (Dataset), then the shared ones."""

    def get(self, keyword: str) -> Any:
        """Return an attribute from the frame's functional groups, else from the header.

        Private groups are ignored: a manufacturer may keep another header in one, with other UIDs.
        """
        for group in self.groups:
            for element in group:
                if element.VR == "SQ" and element.value and not element.tag.is_private:
                    value = element.value[0].get(keyword)
                    if value is not None:
                        return value
        return self.header.get(keyword)

    def readable(self, keyword: str) -> Any:
        """Return an attribute; None if its bytes are not a valid value."""
        try:
            return self.get(keyword)
        except DAMAGED:
            return None

    def private(self, tag: tuple[int, int]) -> Any:
        """Return a private element's value, as bytes if its VR is unknown; None if it is absent.

        Of a multi-frame image also from a private functional group, as Philips writes it.
        """
        try:
            for element in (element for group in self.groups for element in group):
                if element.tag.is_private and element.VR == "SQ" and element.value:
                    value = getattr(element.value[0].get(tag), "value", None)
                    if value is not None:
                        return value
            return getattr(self.header.get(tag), "value", None)
        except DAMAGED:
            return None

    def text(self, keyword: str) -> str:
        """Return an attribute as text on one line, empty if it is absent."""
        value = self.readable(keyword)
        return "" if value is None else str(value).translate(LINE_BREAKS).strip()

    def number(self, keyword: str) -> float | None:
        """Return an attribute as a number, None if it is absent or not a number."""
        numbers = self.all_numbers(keyword)
        return numbers[0] if len(numbers) == 1 else None

    def numbers(self, keyword: str, count: int) -> NDArray[np.float64] | None:
        """Return an attribute as `count` finite numbers, None if it is anything else."""
        values = self.all_numbers(keyword)
        return np.array(values) if len(values) == count else None

    def all_numbers(self, keyword: str) -> list[float]:
        """Return an attribute's numbers; empty if it is absent or any is not a number."""
        try:
            numbers = [float(part) for part in _parts(self.readable(keyword))]
        except (ValueError, TypeError, OverflowError):
            return []
        return numbers if all(map(isfinite, numbers)) else []

    def texts(self, keyword: str) -> tuple[str, ...]:
        """Return a multi-valued attribute as upper-case text."""
        return tuple(str(part).strip().upper() for part in _parts(self.readable(keyword)))

    @property
    def patient(self) -> Patient:
        """The patient attributes of the header."""
        return Patient.of(self.text)

    @property
    def uid(self) -> str:
        """SOP Instance UID."""
        return self.text("SOPInstanceUID")


def grouped(slices: Iterable[DicomSlice], keyword: str) -> dict[str, list[DicomSlice]]:
    """Return slices by the text of an attribute."""
    groups: dict[str, list[DicomSlice]] = defaultdict(list)
    for item in slices:
        groups[item.text(keyword)].append(item)
    return groups


def _parts(value: Any) -> Iterable[Any]:
    """Return the values of an attribute of any multiplicity; empty if it is absent."""
    if value is None:
        return ()
    return value if isinstance(value, Iterable) and not isinstance(value, str | bytes) else (value,)


@dataclass(slots=True)
class Scan:
    """Content of a folder."""

    slices: list[DicomSlice] = field(default_factory=list)
    """MR image planes with a position, each SOP instance once."""
    by_uid: dict[str, DicomSlice] = field(default_factory=dict)
    """MR images, also unusable ones, by SOP Instance UID: the first file of each."""
    other_patients: list[DicomSlice] = field(default_factory=list)
    """Copies of images that name another patient, as before an archive corrected it."""
    other_kinds: Counter[str] = field(default_factory=Counter)
    """Number of other DICOM files by type."""
    problems: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(series description, problem) of MR images that cannot be used."""
    files: int = 0
    """Number of DICOM files."""
    reported_studies: set[str] = field(default_factory=set)
    """Study Instance UIDs of LesionLens reports."""
    contradictions: dict[str, tuple[Path, Path]] = field(default_factory=dict)
    """Two files with one SOP Instance UID and different images, by Series Instance UID."""
    dicomdir: bool = False
    missing: dict[str, Path] = field(default_factory=dict)
    """MR images that a DICOMDIR names and no file holds: their SOP Instance UIDs and places."""
    nifti_files: int = 0
    unusable_files: list[Path] = field(default_factory=list)
    """Files that are empty, damaged or beyond the limits of `bounded`, and links to files that do
    not exist."""

    @property
    def lost(self) -> int:
        """Number of files that are unusable or missing, each counted once."""
        paths = (*self.unusable_files, *self.missing.values())
        return len({str(path).casefold() for path in paths})


def walk(folder: Path) -> Iterator[Path]:
    """Yield regular files below a folder in a stable order; links to folders are not followed."""
    for base, names in bids.walk_folders(folder):
        for name in names:
            path = base / name
            if path.is_file():
                yield path


def broken_links_in(folder: Path) -> list[Path]:
    """Return the links below a folder that lead to no file, without hidden ones."""
    return [
        base / name
        for base, names in bids.walk_folders(folder)
        for name in names
        if not name.startswith(".") and not (base / name).exists()
    ]


def looks_like_dicom(path: Path) -> bool:
    """Return whether a file starts like DICOM, with or without preamble."""
    try:
        with path.open("rb") as stream:
            return _is_dicom(stream.read(136))
    except OSError:
        return False


def _is_dicom(head: bytes) -> bool:
    if head[128:132] == b"DICM":
        return True
    # No preamble: group 0002 or 0008 in little endian, then a plausible element.
    if head[:2] not in (b"\x02\x00", b"\x08\x00") or head[3:4] != b"\x00":
        return False
    return head[4:6].isalpha() or _is_implicit(head)


def _is_implicit(head: bytes) -> bool:
    """Return whether an implicit element of group 0008 is followed by a later one of it."""
    next_at = 8 + int.from_bytes(head[4:8], "little")
    group, element = head[next_at : next_at + 2], head[next_at + 2 : next_at + 4]
    return head[:2] == group == b"\x08\x00" and head[2:4][::-1] < element[::-1]


def sop_class(path: Path) -> str:
    """Return the SOP Class UID in a file's meta header, empty if there is none."""
    try:
        return str(read_meta(path).get("MediaStorageSOPClassUID", ""))
    except (OSError, *DAMAGED):
        return ""


def scan(files: list[Path], context: RunContext) -> Scan:
    """Read the headers of all DICOM files among regular files of any kind."""
    content = Scan()
    with warnings.catch_warnings(action="ignore"):  # invalid values are handled one by one
        for number, path in enumerate(files):
            if number % 50 == 0:
                context.check("opening the study")
                context.progress("open", number / len(files))
            if is_nifti_name(path.name):
                content.nifti_files += 1
            else:
                _read_file(path, content)
    content.missing = {u: place for u, place in content.missing.items() if u not in content.by_uid}
    return content


def _header(path: Path) -> Any:
    """Return the needed elements; None if the file is not DICOM."""
    try:
        with path.open("rb", buffering=0) as stream:
            if not _is_dicom(stream.read(136)):
                return None
    except OSError as error:
        raise unreadable(error, path.name) from error
    return read_dicom(path, stop_before_pixels=True, specific_tags=_TAGS, force=True)


def _read_file(path: Path, content: Scan) -> None:
    """Read one header and classify it as slice, other type or problem."""
    try:
        header = _header(path)
        if header is None:
            if not path.name.startswith(".") and not path.stat().st_size:
                content.unusable_files.append(path)
            return
        _classify(path, header, content)
    except ReadError:
        raise
    except (OSError, *DAMAGED) as error:
        too_large = isinstance(error, TooLargeError)
        content.unusable_files.append(path)
        content.other_kinds[f"DICOM file that {error}" if too_large else "damaged DICOM file"] += 1
    content.files += 1


def _classify(path: Path, header: Any, content: Scan) -> None:
    kind = str(header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID", ""))
    item = DicomSlice(path, header)
    if kind == DICOMDIR_CLASS:
        content.dicomdir = True
        content.missing |= _referenced_images(path)
    elif kind not in MR_IMAGES:
        content.other_kinds[_describe_kind(kind, header)] += 1
        if (item.text("Modality"), item.text("Manufacturer")) == ("SR", MANUFACTURER):
            content.reported_studies.add(item.text("StudyInstanceUID"))
    elif item.uid and item.uid in content.by_uid:
        _record_duplicate(content.by_uid[item.uid], item, content)
    else:
        content.by_uid[item.uid] = item
        if (problem := _problem(item, kind)) is not None:
            content.problems[item.text("SeriesDescription"), problem] += 1
        else:
            content.slices += frames_of(path, header) if kind in MULTI_FRAME else [item]


def _referenced_images(dicomdir: Path) -> dict[str, Path]:
    """Return SOP Instance UID and place of MR images in a DICOMDIR; empty if it is damaged."""
    try:
        records = read_dicom(dicomdir).get("DirectoryRecordSequence") or ()
        return {
            str(uid).strip(): dicomdir.parent.joinpath(*_file_id(record) or [str(uid)])
            for record in records
            if record.get("ReferencedSOPClassUIDInFile") in MR_IMAGES
            and (uid := record.get("ReferencedSOPInstanceUIDInFile"))
        }
    except DAMAGED:
        return {}


def _file_id(record: Any) -> list[str]:
    """Return the parts of the path of a directory record; empty if it has none."""
    parts = record.get("ReferencedFileID") or ()
    return [parts] if isinstance(parts, str) else [str(part) for part in parts]


def _record_duplicate(first: DicomSlice, second: DicomSlice, content: Scan) -> None:
    """Record two files with one SOP Instance UID unless they are copies of one patient's image."""
    if same_image(first, second):
        if first.patient.compared(second.patient).conflicts:
            content.other_patients.append(second)
        return
    for item in (first, second):
        content.contradictions[item.text("SeriesInstanceUID")] = (first.path, second.path)


def same_image(first: DicomSlice, second: DicomSlice) -> bool:
    """Return whether two files are identical, or identical in geometry, scaling and pixels."""
    if filecmp.cmp(first.path, second.path, shallow=False):
        return True
    try:
        if any(str(first.get(key)) != str(second.get(key)) for key in _IMAGE_KEYWORDS):
            return False
        return np.array_equal(*(read_dicom(i.path).pixel_array for i in (first, second)))
    except DAMAGED:
        return False


def _describe_kind(kind: str, header: Any) -> str:
    modality = str(header.get("Modality") or "")
    name = UID(kind).name if kind else "DICOM file without a SOP class (damaged or not an image)"
    return f"{name} (modality {modality})" if modality else str(name)


def _problem(item: DicomSlice, kind: str) -> str | None:
    """Return why an MR image cannot be used, or None."""
    for keyword, problem in (
        ("SeriesInstanceUID", "no SeriesInstanceUID: its series is unknown"),
        ("StudyInstanceUID", "no StudyInstanceUID: its study is unknown"),
        ("SOPInstanceUID", "no SOPInstanceUID: the image cannot be identified"),
    ):
        if not item.text(keyword):
            return problem
    rows, columns = item.number("Rows") or 0, item.number("Columns") or 0
    if rows < 1 or columns < 1:
        return f"an image size of {rows:.0f} rows and {columns:.0f} columns"
    if (coding := _coding_problem(item)) is not None:
        return coding
    frames = item.number("NumberOfFrames") or 0
    if kind == CLASSIC_MR:
        several = f"{frames:.0f} frames in a single-frame MR image"
        return several if frames > 1 else None
    positions = len(item.header.get("PerFrameFunctionalGroupsSequence") or ())
    mismatch = f"{frames:.0f} frames, but {positions} positions (NumberOfFrames is wrong)"
    return mismatch if frames != positions or not positions else None


def _coding_problem(item: DicomSlice) -> str | None:
    """Return why stored numbers cannot be read as grey values; None if they can."""
    if (item.number("SamplesPerPixel") or 1) != 1:
        return "colour (RGB) pixels: more than one sample per pixel"
    photometric = item.text("PhotometricInterpretation")
    if photometric not in ("", "MONOCHROME2"):
        return f"inverted grey values or colour indices ({photometric})"
    if item.get("ModalityLUTSequence"):
        return "stored values that need a lookup table (Modality LUT Sequence)"
    bits, highest = item.number("BitsStored"), item.number("HighBit")
    if bits is not None and highest is not None and highest != bits - 1:
        return f"{bits:.0f} stored bits with high bit {highest:.0f} (retired)"
    return None


def frames_of(path: Path, header: Any) -> list[DicomSlice]:
    """Return the planes of a multi-frame image; none of a single-frame one."""
    shared = header.get("SharedFunctionalGroupsSequence") or ()
    per_frame = header.get("PerFrameFunctionalGroupsSequence") or ()
    return [
        DicomSlice(path, header, index, (groups, *shared[:1]))
        for index, groups in enumerate(per_frame)
    ]
