"""DICOM files to send: headers are read first, pixels when each file is sent."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from filecmp import cmp
from pathlib import Path
from typing import Any

from pydicom.uid import (
    UID,
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EncapsulatedPDFStorage,
    EnhancedSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    ParametricMapStorage,
    RTStructureSetStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from lesionlens.base.errors import ReadError, UnusableInputError
from lesionlens.base.records.patient import Patient, PatientField
from lesionlens.imaging.reading.dicom.files import DAMAGED, quiet_header, read_dicom, read_meta

_UID_TAGS = ["SOPClassUID", "SOPInstanceUID"]
BATCH_FILES, BATCH_BYTES = 20, 64 * 2**20
"""Limits of one request, unless a single file is larger."""


class ObjectKind(StrEnum):
    """Types of objects that a user can choose; the value is the word of `--only`."""

    SEG = "seg"
    SR = "sr"
    PM = "pm"
    """Parametric Map: the network's attention."""
    KO = "ko"
    """Key Object Selection."""
    SC = "sc"
    """Secondary Capture."""
    PR = "pr"
    """Presentation State."""
    RTSTRUCT = "rtstruct"
    DOC = "doc"
    """Encapsulated document."""
    OTHER = "other"
    """Images, and anything else."""


_KINDS: dict[str, ObjectKind] = {
    SegmentationStorage: ObjectKind.SEG,
    Comprehensive3DSRStorage: ObjectKind.SR,
    ComprehensiveSRStorage: ObjectKind.SR,
    EnhancedSRStorage: ObjectKind.SR,
    BasicTextSRStorage: ObjectKind.SR,
    ParametricMapStorage: ObjectKind.PM,
    KeyObjectSelectionDocumentStorage: ObjectKind.KO,
    SecondaryCaptureImageStorage: ObjectKind.SC,
    MultiFrameTrueColorSecondaryCaptureImageStorage: ObjectKind.SC,
    GrayscaleSoftcopyPresentationStateStorage: ObjectKind.PR,
    RTStructureSetStorage: ObjectKind.RTSTRUCT,
    EncapsulatedPDFStorage: ObjectKind.DOC,
}


def kind_of(sop_class: str) -> ObjectKind:
    """Return the type of an object by its SOP class."""
    return _KINDS.get(sop_class, ObjectKind.OTHER)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One file: the UIDs of its data set, by which an archive stores it, and its size."""

    path: Path
    sop_class: str
    syntax: str
    sop_instance: str
    size_bytes: int

    @property
    def kind(self) -> ObjectKind:
        """Type, as for `--only`."""
        return kind_of(self.sop_class)

    @property
    def class_name(self) -> str:
        """Name of the SOP class."""
        return str(UID(self.sop_class).name)

    def load(self) -> Any:
        """Return the complete data set."""
        return self._read()

    def header(self) -> Any:
        """Return the data set without pixels."""
        return self._read(stop_before_pixels=True)

    def _read(self, **options: Any) -> Any:
        try:
            return read_dicom(self.path, **options)
        except DAMAGED as error:
            raise _unreadable(self.path) from error

    def identity(self) -> tuple[str, Patient]:
        """Return Study Instance UID and patient."""
        tags = ["StudyInstanceUID", *(field.value for field in PatientField)]
        try:
            with quiet_header(self.path, specific_tags=tags) as header:
                return str(header.StudyInstanceUID), Patient.of(header.get)
        except DAMAGED as error:
            raise _unreadable(self.path) from error


def read_outgoing(files: Sequence[Path]) -> list[Outgoing]:
    """Read the headers of all files, before anything is sent.

    Raises
    ------
    ReadError
        A file cannot be sent, or an archive would keep only one of two files.
    """
    items = [_read(path) for path in files]
    by_uid: dict[str, Outgoing] = {}
    for item in items:
        earlier = by_uid.setdefault(item.sop_instance, item)
        if earlier is not item and not cmp(earlier.path, item.path, shallow=False):
            raise ReadError(
                found=f"one SOP Instance UID in two different files: {earlier.path.name} and "
                f"{item.path.name}",
                expected="one file for each object: an archive keeps only one",
                next_step="Take the wrong one out of the folder, then send again",
            )
    return items


def only(files: Sequence[Path], kinds: Collection[ObjectKind]) -> list[Path]:
    """Return the files of these types, or all if none is named.

    Raises
    ------
    UnusableInputError
        There is no such file.
    """
    items = read_outgoing(files)
    chosen = [item.path for item in items if not kinds or item.kind in kinds]
    if not chosen:
        available = sorted({item.kind.value for item in items})
        raise UnusableInputError(
            found=f"no object of the kind {', '.join(kinds)}, but {', '.join(available)}",
            expected="at least one to send",
            next_step="Choose others with --only, or omit it to send all",
            in_window="Export the objects first",
        )
    return chosen


def kinds_in(text: str) -> tuple[ObjectKind, ...]:
    """Parse a comma-separated list of types.

    Raises
    ------
    UnusableInputError
        A word is not a type.

    Examples
    --------
    >>> [kind.value for kind in kinds_in("seg, SR")]
    ['seg', 'sr']
    """
    words = [word.strip().lower() for word in text.split(",") if word.strip()]
    unknown = [word for word in words if word not in set(ObjectKind)]
    if unknown:
        raise UnusableInputError(
            found=f"--only {unknown[0]!r:.40}",
            expected=f"kinds of objects with commas between: {', '.join(ObjectKind)}",
            next_step="Choose among these",
        )
    return tuple(ObjectKind(word) for word in words)


def batches(items: Sequence[Outgoing]) -> Iterator[list[Outgoing]]:
    """Yield files in batches that fit into memory."""
    batch: list[Outgoing] = []
    for item in items:
        full = sum(queued.size_bytes for queued in batch) + item.size_bytes > BATCH_BYTES
        if batch and (full or len(batch) == BATCH_FILES):
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


def _read(path: Path) -> Outgoing:
    try:
        syntax = str(read_meta(path).TransferSyntaxUID)
        with quiet_header(path, specific_tags=_UID_TAGS) as header:
            sop_class, sop_instance = str(header.SOPClassUID), str(header.SOPInstanceUID)
        if not (sop_class and sop_instance):
            raise ValueError("a data set without its own UIDs")
    except DAMAGED as error:
        raise _unreadable(path) from error
    return Outgoing(path, sop_class, syntax, sop_instance, path.stat().st_size)


def _unreadable(path: Path) -> ReadError:
    return ReadError(
        found=f"an incomplete or invalid DICOM file: {path.name}",
        expected="DICOM files with a file header",
        next_step="Remove it from the folder, or export the result again",
    )
