"""Open a study: choose the reader by file headers; explain why if none applies."""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import numpy as np

from lesionlens.base.arguments import member_of, path_of
from lesionlens.base.errors import UnusableInputError, unreadable
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import Study
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.base.text import abbreviated_list

REPORTED = (
    "The study contains a LesionLens report. A new analysis does not include its decisions: to "
    "continue that review, reopen the DICOM objects."
)
"""Notice on a new analysis of a study that has a LesionLens report."""


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """The user's options for reading."""

    study_uid: str | None = None
    """Which study, if the folder holds several: a Study Instance UID, or the name that the error
    listed.
    """
    context: RunContext = SILENT
    """Progress and cancellation between files."""
    selected_paths: tuple[Path, ...] = ()
    """Selected files and folders below the path; empty for all."""
    same_patient: bool = False
    """Whether the user confirmed that contradicting identities are one patient."""

    def files(self, root: Path, walk: Callable[[Path], Iterator[Path]]) -> list[Path]:
        """Return the selected files, each once, with folders expanded by `walk`."""
        selected: dict[Path, None] = {}
        for path in self.selected_paths or (root,):
            selected.update(dict.fromkeys(walk(path) if path.is_dir() else (path,)))
        return list(selected)


class StudyReader(Protocol):
    """Reads one type of study."""

    def claims(self, path: Path) -> float:
        """Return the certainty of 0 to 1, from headers alone, that it can read `path`."""

    def read(self, path: Path, named: Mapping[MrSequence, str], options: ReadOptions) -> Study:
        """Read headers and geometry; voxels are read by `Series.load`."""


def open_study(
    path: str | Path | Sequence[str | Path],
    *,
    named: Mapping[MrSequence, str | Path] | None = None,
    study_uid: str | None = None,
    same_patient: bool = False,
    context: RunContext = SILENT,
) -> Study:
    """Open a folder of NIfTI or DICOM files, or one NIfTI file.

    Parameters
    ----------
    path : str or Path, or a sequence of them
        The study; several files and folders form one study.
    named : mapping of MrSequence to str or Path
        Sequences named by the user: a NIfTI file or DICOM folder, by its path or its path within
        the study, or a Series UID within the study. Overrides detection.
    study_uid : str or None
        Which study, if the folder holds several: a `ListedStudy.uid`.
    same_patient : bool
        The user confirmed that files with contradicting identities are one patient; a notice says
        so. Otherwise a `PatientConflictError` is raised.
    context : RunContext
        Called between files.

    Returns
    -------
    Study
        Headers and geometry of at most one series per sequence; voxels are read by `load()`.

    Raises
    ------
    UnusableInputError
        Nothing usable was found. The subclasses `SeveralStudiesError` and `UndecidedSeriesError`
        hold the user's choices, `PatientConflictError` the attributes that differ.
    CancelledError
        The user asked to stop.
    """
    is_one = isinstance(path, str | os.PathLike) or not isinstance(path, Iterable)
    raw_paths = cast("Iterable[object]", (path,) if is_one else path)
    paths = tuple(path_of(item, "the folder or file of a study") for item in raw_paths)
    context.check("opening the study")
    context.progress("open", 0.0)
    for item in paths:
        check_path(item)
    paths = tuple(item.absolute() for item in paths)  # voxels are read later, wherever that is
    root = paths[0] if len(paths) == 1 else _common_folder(paths)
    requested = {
        member_of(MrSequence, key, "a sequence"): _series_name(value)
        for key, value in (named or {}).items()
    }
    reader = _reader_of(paths)
    if reader is None:
        raise UnusableInputError(
            found=_describe_content(*paths),
            expected="a folder of NIfTI files (.nii, .nii.gz) or of DICOM files, or one NIfTI file",
            next_step="Choose the folder that holds the scans themselves",
        )
    options = ReadOptions(study_uid, context, paths if len(paths) > 1 else (), same_patient)
    study = reader.read(root, requested, options)
    context.progress("open", 1.0)
    return study


def _reader_of(paths: Sequence[Path]) -> StudyReader | None:
    """Return the reader with the highest certainty for all these paths, or None."""
    from lesionlens.imaging.reading.dicom.reader import DicomReader
    from lesionlens.imaging.reading.nifti.reader import NiftiReader

    readers: tuple[StudyReader, ...] = (DicomReader(), NiftiReader())
    certainties = [min(map(reader.claims, paths)) for reader in readers]
    surest = int(np.argmax(certainties))
    return readers[surest] if certainties[surest] > 0 else None


def _series_name(value: str | Path) -> str:
    """Return the name of a series as the user wrote it; refuse what cannot be one."""
    path_of(value, "a file, a folder or a Series UID of that sequence")
    return os.fspath(value)


def _common_folder(paths: Sequence[Path]) -> Path:
    """Return the deepest common folder of paths; refuse paths on several drives."""
    try:
        return Path(os.path.commonpath([p.parent for p in paths]))
    except ValueError as error:
        raise UnusableInputError(
            found="nothing to open" if not paths else "files on several drives",
            expected="files and folders of one study, on one drive",
            next_step="Choose the folder that holds the scans",
        ) from error


def check_path(path: Path) -> None:
    """Refuse a path that is missing, circular, unreadable, or not a regular file or folder.

    Raises
    ------
    UnusableInputError
        The message states the reason.
    """
    try:
        mode = path.stat().st_mode
    except PermissionError as error:  # of a folder above it
        raise unreadable(error, path.name) from error
    except OSError as error:
        raise UnusableInputError(
            found=f"a loop of links at {path.name!r}"
            if error.errno == errno.ELOOP
            else f"no such file or folder: {path.name!r} does not exist",
            expected="an existing folder or file",
            next_step="Check the spelling of the path and that the disk is mounted",
        ) from error
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise UnusableInputError(
            found=f"{path.name!r}, a pipe or device and not a regular file",
            expected="a folder or a file",
            next_step="Name the folder that holds the scans",
        )
    if not os.access(path, os.R_OK):
        raise unreadable(PermissionError(errno.EACCES, ""), path.name)


def _describe_content(path: Path, *others: Path) -> str:
    """Describe what a path contains instead of scans, or several that are not of one kind."""
    if others:
        items = abbreviated_list([repr(each.name) for each in (path, *others)], 5)
        return f"{items}, which are not all NIfTI or all DICOM"
    if path.is_file():
        return f"{_kind_of(path)} named {path.name!r}: not a NIfTI or DICOM file"
    folders, links, irregularities, file_names = 0, 0, Counter[str](), list[str]()
    for folder, subfolders, names in os.walk(path):
        folders += len(subfolders)
        links += sum(Path(folder, name).is_symlink() for name in subfolders)
        file_names += names
        irregularities.update(_irregularity(Path(folder, name)) for name in names)
    if not irregularities:
        details = f", only {folders} folder(s)" if folders else ""
        details += f", {links} of them links, which are not followed" if links else ""
        return f"no image: the folder {path.name!r} is empty, no file in it{details}"
    parts = [f"no image among the {irregularities.total()} file(s) found in {path.name!r}"]
    pairs = sum(name.lower().endswith((".hdr", ".img")) for name in file_names)
    if pairs:
        parts.append(
            f"{pairs} of them of a pair (.hdr, .img), which must be converted to one .nii.gz"
        )
    parts += [
        f"{count} of them {irregularity}"
        for irregularity, count in irregularities.items()
        if irregularity
    ]
    return ", ".join(parts)


def _irregularity(path: Path) -> str:
    """Return what is irregular about a directory entry; empty if nothing."""
    if path.is_symlink() and not path.exists():
        return "a link to what does not exist or to itself"
    if not path.is_file():
        return "a pipe or device, not a regular file"
    return "" if path.stat().st_size else "empty, 0 bytes"


def _kind_of(path: Path) -> str:
    if path.suffix.lower() in (".hdr", ".img"):
        return "half of a pair (.hdr, .img), which must be converted to one .nii.gz,"
    with path.open("rb") as stream:
        head = stream.read(8)
    if not head:
        return "an empty file, 0 bytes,"
    kinds = ((b"%PDF", "a PDF"), (b"PK\x03\x04", "a zip archive"))
    return next((description for magic, description in kinds if head.startswith(magic)), "a file")
