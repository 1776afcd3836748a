"""Open a study: find its reader, choose one series for each sequence, list what has to be chosen.

`open_study` is the name to call. A reader returns a `Study`; `choose` and the errors below are what
both readers use to decide, or to hand the choice to the user.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from lesionlens.base.arguments import member_of, path_of
from lesionlens.base.errors import UnusableInputError, unreadable
from lesionlens.base.labels import NAME_IN_WINDOW, MrSequence, naming_advice
from lesionlens.base.records.study import Series, Study, StudyKind
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.base.text import abbreviated_list, counted, encodable
from lesionlens.imaging.reading.bids import short_name

REPORTED = (
    "The study contains a LesionLens report. A new analysis does not include its decisions: to "
    "continue that review, reopen the DICOM objects."
)
"""Notice on a new analysis of a study that has a LesionLens report."""
_MAX_STUDIES, _MAX_SERIES = 12, 8
"""Studies, and series or notices, that an error quotes."""


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """The user's options for reading."""

    study_uid: str | None = None
    """Which study, if the folder holds several: a `ListedStudy.uid`."""
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


def open_study(
    path: str | Path | Sequence[str | Path],
    *,
    named: Mapping[MrSequence, str | Path] | None = None,
    study_uid: str | None = None,
    same_patient: bool = False,
    context: RunContext = SILENT,
) -> Study:
    """Open a folder of NIfTI or DICOM files, or one file.

    Parameters
    ----------
    path : str or Path, or a sequence of them
        The study; several files and folders form one study.
    named : mapping of MrSequence to str or Path
        Sequences named by the user: a file or DICOM folder, by its path or its path within the
        study, or a Series UID within the study. Overrides detection.
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
    items = cast("Iterable[object]", (path,) if is_one else path)
    paths = tuple(path_of(item, "the folder or file of a study") for item in items)
    context.check("opening the study")
    context.progress("open", 0.0)
    for item in paths:
        check_path(item)
    paths = tuple(item.absolute() for item in paths)  # voxels are read later, wherever that is
    try:
        root = paths[0] if len(paths) == 1 else Path(os.path.commonpath([p.parent for p in paths]))
    except ValueError as error:
        raise UnusableInputError(
            "The files are on several drives." if paths else "There is nothing to open.",
            hint="Choose the folder that holds the scans",
        ) from error
    requested = {}
    for key, value in (named or {}).items():
        path_of(value, "a file, a folder or a Series UID of that sequence")
        requested[member_of(MrSequence, key, "a sequence")] = os.fspath(value)
    options = ReadOptions(study_uid, context, paths if len(paths) > 1 else (), same_patient)
    study = _reader_of(paths)(root, requested, options)
    context.progress("open", 1.0)
    return replace(study, name=short_name(study.name))


def _reader_of(paths: Sequence[Path]) -> Callable[..., Study]:
    """Return the function that reads these paths: DICOM where there are both kinds."""
    from lesionlens.imaging.reading.dicom import reader as dicom

    certainty = min(map(dicom.claims, paths))
    if certainty == 1:
        return dicom.read
    from lesionlens.imaging.reading import nifti

    if min(map(nifti.claims, paths)) > certainty:
        return nifti.read
    if not certainty:
        raise UnusableInputError(
            _content_of(*paths),
            hint="Choose the folder that holds the scans: NIfTI (.nii, .nii.gz), .nrrd, .mha, "
            ".mhd, .mgz or DICOM",
        )
    return dicom.read


def check_path(path: Path) -> None:
    """Refuse a path that is missing, circular, unreadable, or not a regular file or folder."""
    try:
        mode = path.stat().st_mode
    except PermissionError as error:  # of a folder above it
        raise unreadable(error, path.name) from error
    except OSError as error:
        is_loop = error.errno == errno.ELOOP
        raise UnusableInputError(
            f"{path.name!r} is a loop of links." if is_loop else f"{path.name!r} does not exist.",
            hint="Check the spelling of the path and that the disk is mounted",
        ) from error
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise UnusableInputError(
            f"{path.name!r} is a pipe or device, not a regular file.",
            hint="Name the folder that holds the scans",
        )
    if not os.access(path, os.R_OK):
        raise unreadable(PermissionError(errno.EACCES, ""), path.name)


def _content_of(path: Path, *others: Path) -> str:
    """Return the sentence on what a path holds instead of scans."""
    if others:
        names = abbreviated_list([repr(each.name) for each in (path, *others)], 5)
        return f"{names} are not all NIfTI or all DICOM."
    if path.is_file():
        remark = _remark(path)
        return f"{path.name!r} is not a NIfTI or DICOM file{remark and f', but {remark}'}."
    files = [Path(base, name) for base, _, names in os.walk(path) for name in names]
    remarks = Counter(filter(None, map(_remark, files)))
    counts = "".join(f"; {count} is {remark}" for remark, count in remarks.items())
    return f"{path.name!r} holds no image among its {counted(len(files), 'file')}{counts}."


def _remark(path: Path) -> str:
    if path.suffix.lower() in (".hdr", ".img"):
        return "half of a pair (.hdr, .img), to be converted to one .nii.gz"
    if path.is_file():
        return "" if path.stat().st_size else "empty, 0 bytes"
    is_link = path.is_symlink() and not path.exists()
    return "a link to what does not exist or to itself" if is_link else "a pipe or device"


# ---- names


def relative_name(path: Path, root: Path) -> str:
    """Return the path relative to the study with forward slashes, or the bare name."""
    try:
        return encodable(path.relative_to(root).as_posix())
    except ValueError:
        return encodable(path.name)


def named_path(value: str, root: Path, sequence: MrSequence) -> Path | None:
    """Return the file or folder that the user named, by its path or its path within the study.

    If there are both, and they are not the same, one may be another patient's: refused.
    """
    found = {p.resolve(): p for p in (Path(value).absolute(), root / value) if p.exists()}
    if len(found) > 1:
        raise UnusableInputError(
            f"{value!r} for --{sequence.value} is both in the study and in the working folder.",
            hint="Name it by its full path",
        )
    return next(iter(found.values()), None)


def name_for_reader(series: Series, study: Study) -> str:
    """Return a series of a study as an argument of `open_study`.

    Its UID, or its first file's absolute path if it has none or shares it, as the time points of a
    dynamic series do. A bare file name could match another patient's file in the working folder.
    """
    uids = [other.uid for other in study.all_series]
    own_uid = series.uid if uids.count(series.uid) == 1 else None
    return own_uid or (str(series.files[0].path) if series.files else series.description)


def distinct_names(all_series: Sequence[Series]) -> tuple[str, ...]:
    """Return a distinct name for each series: its description, with its first file if ambiguous."""
    names = [series.description or series.files[0].name for series in all_series]
    return tuple(
        name if names.count(name) == 1 else f"{name}, {series.files[0].name}"
        for name, series in zip(names, all_series, strict=True)
    )


# ---- one series for each sequence


def choose(
    all_series: Iterable[Series], named: Mapping[MrSequence, Series]
) -> tuple[dict[MrSequence, Series], tuple[Series, ...], tuple[str, ...]]:
    """Select at most one series per sequence: the user's, else the surest, else the finest.

    Returns
    -------
    chosen : dict of MrSequence to Series
        In the order of MrSequence.
    set_aside : tuple of Series
        The others.
    notices : tuple of str
        For sequences with several series: which was chosen and why.
    """
    named_ids = {id(series) for series in named.values()}
    unnamed = [series for series in all_series if id(series) not in named_ids]
    chosen: dict[MrSequence, Series] = {}
    notices: list[str] = []
    for sequence in MrSequence:
        if sequence in named:
            chosen[sequence] = named[sequence]
            continue
        fitting = [series for series in unnamed if series.sequence is sequence]
        if sequence is MrSequence.T1C and all(series.uid for series in fitting):
            fitting.reverse()  # of equals the later: the agent may be recorded before it is given
        fitting.sort(key=_rank)
        if fitting:
            chosen[sequence] = fitting[0]
        if len(fitting) > 1:
            used, *others = (f'"{name}"' for name in distinct_names(fitting))
            notices.append(
                f"More than one {sequence.display_name} series: {used} was used (the most certain "
                f"name, the best coverage, the finest resolution), {', '.join(others)} set aside. "
                f"To use another, {naming_advice(sequence)}."
            )
    chosen_ids = {id(series) for series in chosen.values()}
    return chosen, tuple(s for s in unnamed if id(s) not in chosen_ids), tuple(notices)


def _rank(series: Series) -> tuple[float, ...]:
    """Return a sort key, best first: sure to a tenth, full view, small voxels, coverage."""
    spacing_mm = series.grid.spacing_mm
    extent_mm = spacing_mm * np.asarray(series.grid.shape)
    sure, full_view = round(series.confidence, 1), float(extent_mm.min() >= 100.0)
    edge_mm, voxel = round(float(spacing_mm.max()), 2), round(float(spacing_mm.prod()), 3)
    return (-sure, -full_view, edge_mm, voxel, -round(float(extent_mm.prod()), 3))


def is_about_choice(notice: str, sequences: Iterable[MrSequence]) -> bool:
    """Return whether a notice of `choose` is about one of these sequences."""
    return notice.startswith(tuple(f"More than one {s.display_name} series" for s in sequences))


class UndecidedSeriesError(UnusableInputError):
    """No series of a study is one of the four sequences, or several are one; `study` lists them.

    The user may name one of `study.set_aside` by `name_for_reader`.
    """

    def __init__(self, study: Study, *args: Any, **parts: str) -> None:
        super().__init__(*args, **parts)
        self.study = study


def refuse_several(
    detected: Sequence[Series], named: Mapping[MrSequence, Series], study: Study
) -> None:
    """Refuse several files of one sequence whose names are equally certain, such as two runs."""
    repeated = {}
    for sequence in MrSequence:
        fitting = [s for s in detected if s.sequence is sequence and sequence not in named]
        certainty = max((round(s.confidence, 1) for s in fitting), default=0.0)
        equal = [repr(s.files[0].name) for s in fitting if round(s.confidence, 1) == certainty]
        if len(equal) > 1:
            repeated[sequence] = abbreviated_list(equal, _MAX_SERIES)
    if not repeated:
        return
    listed = "; ".join(f"{s.display_name}: {names}" for s, names in repeated.items())
    series = {s: item for s, item in study.series.items() if s not in repeated}
    undecided = tuple(item for s, item in study.series.items() if s in repeated)
    other = "or give each examination a folder of its own"
    raise UndecidedSeriesError(
        replace(study, series=series, set_aside=(*undecided, *study.set_aside)),
        f"There are several files of one sequence ({listed}).",
        hint=f"Choose one: {naming_advice(next(iter(repeated)))}; {other}",
        in_window=f"Choose one: {NAME_IN_WINDOW}; {other}",
    )


def nothing_recognised(study: Study) -> UndecidedSeriesError:
    """Return the error for a study in which no sequence was recognised, or no image was read."""
    names = distinct_names(study.set_aside)
    listed = [f'"{n}" ({s.detected_by})' for n, s in zip(names, study.set_aside, strict=True)]
    what = "No image can be read."
    if listed:
        what = (
            f"None of the {len(listed)} series is recognised as a sequence T1, T1c, T2 or FLAIR: "
            f"{abbreviated_list(listed, _MAX_SERIES)}."
        )
    known = "If you know a sequence, {}" if listed else "Convert or export the scan again"
    return UndecidedSeriesError(
        study,
        " ".join((what, *study.notices[:_MAX_SERIES])),
        hint=known.format(naming_advice(MrSequence.T1C)),
        in_window=known.format(NAME_IN_WINDOW),
    )


# ---- one study of several


@dataclass(frozen=True, slots=True)
class ListedStudy:
    """One of several studies in a folder, to choose from."""

    uid: str
    """The argument of `open_study(study_uid=…)`: a Study Instance UID; for NIfTI the name of the
    folder or BIDS session."""
    kind: StudyKind
    date: str
    """YYYYMMDD from the header; empty if unknown."""
    description: str
    """StudyDescription, as found (hostile text: escape it); empty if there is none."""
    series: int
    images: int
    """Number of series (NIfTI: files), and of image planes (NIfTI: files)."""


class SeveralStudiesError(UnusableInputError):
    """Several studies of which none, or an unknown one, was selected; `studies` holds them."""

    def __init__(self, studies: tuple[ListedStudy, ...], *args: Any, **parts: str) -> None:
        super().__init__(*args, **parts)
        self.studies = studies


def several_studies(studies: Sequence[ListedStudy], requested: str | None) -> SeveralStudiesError:
    """Return the error for a folder with several studies, or without the selected one."""
    ordered = tuple(sorted(studies, key=lambda s: (s.date, s.uid)))
    texts = [
        f"{s.uid} (date {s.date or 'unknown'}, {s.series} series)"
        if s.kind is StudyKind.DICOM
        else f'"{s.uid}" ({counted(s.series, "file")})'
        for s in ordered
    ]
    missing = "" if requested is None else f", but no {requested!r}"
    listed = abbreviated_list(texts, _MAX_STUDIES, "; ")
    return SeveralStudiesError(
        ordered,
        f"The folder holds {counted(len(ordered), 'study', 'studies')}{missing}: {listed}.",
        hint="Name one with --study, open its own folder, or use `lesionlens batch` for all; add a "
        "series of another one by its folder or file, as with --flair FOLDER",
        in_window="Choose one in the list, or open its own folder",
    )
