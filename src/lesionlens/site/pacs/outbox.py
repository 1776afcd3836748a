"""What is sent: the headers of all files are read first, the pixels of each in its turn."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom

from lesionlens.base.errors import ExportError, ReadError, ResourceError, UnusableInputError
from lesionlens.base.provenance import utc_now
from lesionlens.base.stages import NEVER, Cancel, Progress, no_progress
from lesionlens.imaging.reading.dicom.documents import note_sent
from lesionlens.imaging.reading.dicom.scan import looks_like_dicom, walk
from lesionlens.site.pacs.intake import DAMAGED, Pacs

BATCH_FILES, BATCH_BYTES = 20, 64 * 2**20
"""At most in one request, where a single file is not larger."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One file: its SOP Class and Transfer Syntax UIDs, and its size."""

    path: Path
    sop_class: str
    syntax: str
    size_bytes: int

    def load(self) -> Any:
        """Return the whole data set."""
        try:
            return pydicom.dcmread(self.path)
        except DAMAGED as error:
            raise _unreadable(self.path) from error


def files_to_send(result: Path) -> list[Path]:
    """Return a result's DICOM objects (its folder `dicom`), or those of any folder.

    Raises
    ------
    UnusableInputError
        There is none.
    """
    folder = folder_to_send(result)
    files = [path for path in walk(folder) if looks_like_dicom(path)] if folder.is_dir() else []
    if not files:
        raise UnusableInputError(
            found=f"no DICOM file in {folder.name!r}",
            expected="a result of a DICOM study (with a folder `dicom`), or DICOM files",
            next_step="Analyse a DICOM study first: NIfTI input gives no DICOM objects",
        )
    return files


def send_result(
    archive: Pacs,
    result: Path,
    address: str,
    *,
    progress: Progress = no_progress,
    cancel: Cancel = NEVER,
) -> tuple[int, tuple[str, ...]]:
    """Send a result's objects, and note in its folder that its report left.

    Parameters
    ----------
    archive : Pacs
        From `connect`.
    result : Path
        A result folder, its folder `dicom`, or any folder of DICOM files, where nothing is noted.
    address : str
        Of the archive, for the note.
    progress, cancel : Progress, Cancel
        As `Pacs.send` takes them.

    Returns
    -------
    tuple of (int, tuple of str)
        How many files were stored, and what could not be noted.
    """
    files = files_to_send(result)
    taken = archive.send(files, progress=progress, cancel=cancel)
    owner = result.resolve().parent if result.resolve().name == "dicom" else result
    if not (owner / "run.json").is_file():
        return taken, ()
    try:
        note_sent(owner, files, address, utc_now())
    except ResourceError as error:
        return taken, (f"That the report was sent could not be noted: {error}",)
    return taken, ()


def folder_to_send(result: Path) -> Path:
    """Return the folder of a result's DICOM objects, or the folder itself."""
    return result / "dicom" if (result / "dicom").is_dir() else result


def read_outgoing(files: Sequence[Path]) -> list[Outgoing]:
    """Read the headers of all files, before anything is sent.

    Raises
    ------
    ReadError
        One cannot be sent.
    """
    return [_read(path) for path in files]


def batches(files: Sequence[Path]) -> Iterator[list[Outgoing]]:
    """Yield files in lots that fit into memory."""
    lot: list[Outgoing] = []
    for item in read_outgoing(files):
        full = sum(other.size_bytes for other in lot) + item.size_bytes > BATCH_BYTES
        if lot and (full or len(lot) == BATCH_FILES):
            yield lot
            lot = []
        lot.append(item)
    if lot:
        yield lot


def refused(what: str, taken: int) -> ExportError:
    """Return the error of an archive that did not store everything."""
    return ExportError(
        found=f"{what} that the archive refused; it took {taken}",
        expected="all of them to be stored",
        next_step="Ask the archive's administrator which kinds of object it takes",
    )


def _read(path: Path) -> Outgoing:
    try:
        with warnings.catch_warnings(action="ignore"):
            meta: Any = pydicom.filereader.read_file_meta_info(path)
        kind, syntax = str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID)
    except DAMAGED as error:
        raise _unreadable(path) from error
    return Outgoing(path, kind, syntax, path.stat().st_size)


def _unreadable(path: Path) -> ReadError:
    return ReadError(
        found=f"a file that is no whole DICOM file: {path.name}",
        expected="DICOM files with a file header",
        next_step="Take it out of the folder, or export the result again",
    )
