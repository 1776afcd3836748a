"""Select one series per sequence: the user's choice, then confidence, then resolution."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import NAME_IN_WINDOW, MrSequence, naming_advice
from lesionlens.base.records.study import Series, Study, StudyKind
from lesionlens.base.text import abbreviated_list, counted


def name_for_reader(series: Series, study: Study) -> str:
    """Return a series of a study as an argument of `open_study`.

    Its UID, or its first file's absolute path if it has none or shares it, as the time points of a
    dynamic series do. A bare file name could match another patient's file in the working folder.
    """
    uids = [other.uid for other in study.all_series]
    own_uid = series.uid if uids.count(series.uid) == 1 else None
    return own_uid or (str(series.files[0].path) if series.files else series.description)


def distinct_names(all_series: Sequence[Series]) -> tuple[str, ...]:
    """Return a distinct name for each series: its description, with its first file if ambiguous.

    A repeated acquisition often has the same description as the one that it replaces.
    """
    names = [series.description or series.files[0].name for series in all_series]
    return tuple(
        name if names.count(name) == 1 else f"{name}, {series.files[0].name}"
        for name, series in zip(names, all_series, strict=True)
    )


def _rank(series: Series) -> tuple[float, ...]:
    """Return a sort key, best first: sure to a tenth, full view, small voxels, coverage."""
    spacing_mm = series.grid.spacing_mm
    extent_mm = spacing_mm * np.asarray(series.grid.shape)
    full_view = float(extent_mm.min() >= 100.0)
    voxel_size = (round(float(spacing_mm.max()), 2), round(float(spacing_mm.prod()), 3))
    return (
        -round(series.confidence, 1),
        -full_view,
        *voxel_size,
        -round(float(extent_mm.prod()), 3),
    )


def choose(
    all_series: Iterable[Series], named: Mapping[MrSequence, Series]
) -> tuple[dict[MrSequence, Series], tuple[Series, ...], tuple[str, ...]]:
    """Select at most one series per sequence.

    Parameters
    ----------
    all_series : iterable of Series
        All series, in a stable order.
    named : mapping of MrSequence to Series
        Series named by the user; these win.

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
        fitting = [s for s in unnamed if s.sequence is sequence]
        if sequence is MrSequence.T1C and all(series.uid for series in fitting):
            fitting.reverse()  # of equals the later: the agent may be recorded before it is given
        candidates = sorted(fitting, key=_rank)
        if candidates:
            chosen[sequence] = candidates[0]
        if len(candidates) > 1:
            used, *others = distinct_names(candidates)
            alternatives = ", ".join(f'"{name}"' for name in others)
            notices.append(
                f"More than one {sequence.display_name} series: "
                f'"{used}" was used (the most certain name, the best '
                "coverage, the finest resolution), "
                f"{alternatives} set aside. "
                f"To use another, {naming_advice(sequence)}."
            )
    chosen_ids = {id(series) for series in chosen.values()}
    return chosen, tuple(s for s in unnamed if id(s) not in chosen_ids), tuple(notices)


def is_about_choice(notice: str, sequences: Iterable[MrSequence]) -> bool:
    """Return whether a notice of `choose` is about one of these sequences."""
    return notice.startswith(tuple(f"More than one {s.display_name} series" for s in sequences))


@dataclass(frozen=True, slots=True)
class ListedStudy:
    """One of several studies in a folder, to choose from."""

    uid: str
    """The argument of `open_study(study_uid=…)`: a Study Instance UID; for NIfTI the name of the
    folder or BIDS session.
    """
    kind: StudyKind
    date: str
    """YYYYMMDD from the header; empty if unknown."""
    description: str
    """StudyDescription, as found (hostile text: escape it); empty if there is none."""
    series: int
    images: int
    """Number of series (NIfTI: files), and of image planes (NIfTI: files)."""


class SeveralStudiesError(UnusableInputError):
    """A folder with several studies of which none, or an unknown one, was selected.

    Parameters
    ----------
    studies : tuple of ListedStudy
        All of them, by date, then by `uid`.
    """

    def __init__(self, studies: tuple[ListedStudy, ...], **message_parts: str) -> None:
        super().__init__(**message_parts)
        self.studies = studies


_MAX_LISTED_STUDIES = 12


def several_studies(
    studies: Sequence[ListedStudy], requested_uid: str | None
) -> SeveralStudiesError:
    """Return the error for a folder with several studies, or without the selected one."""
    ordered = tuple(sorted(studies, key=lambda s: (s.date, s.uid)))
    descriptions = abbreviated_list(
        [_describe(study) for study in ordered], _MAX_LISTED_STUDIES, "; "
    )
    prefix = "" if requested_uid is None else f"no study {requested_uid!r} among "
    is_dicom = ordered[0].kind is StudyKind.DICOM
    noun = "studies" if is_dicom else "studies or patients"
    count = f"{len(ordered)} {noun}" if len(ordered) > 1 else "one study"
    return SeveralStudiesError(
        ordered,
        found=f"{prefix}{count} in one folder: {descriptions}",
        expected="one study (examination)",
        next_step="Name one with --study UID, or choose its own folder"
        if is_dicom
        else "Name one with --study, open its own folder, or use `lesionlens batch` for all",
        in_window="Choose one in the list, or open its own folder"
        if requested_uid is None
        else "Open the folder where it is now",
    )


def _describe(study: ListedStudy) -> str:
    if study.kind is StudyKind.NIFTI:
        return f'"{study.uid}" ({counted(study.series, "file")})'
    return f"{study.uid} (date {study.date or 'unknown'}, {study.series} series)"


_MAX_LISTED_SERIES = 8
"""Series or notices that an error quotes."""


class UndecidedSeriesError(UnusableInputError):
    """No series of a study is one of the four sequences, or several are one; `study` lists them.

    The user may name one of `study.set_aside` by `name_for_reader`.
    """

    def __init__(self, study: Study, **message_parts: str) -> None:
        super().__init__(**message_parts)
        self.study = study


def refuse_several(
    detected: Sequence[Series], named: Mapping[MrSequence, Series], study: Study
) -> None:
    """Refuse a study with several files of one sequence whose names are equally certain.

    Parameters
    ----------
    study : Study
        With at most one series for each sequence, of which a repeated one is set aside.

    Raises
    ------
    UndecidedSeriesError
        The user has to name one of them.
    """
    repeated = {}
    for sequence in MrSequence:
        fitting = [s for s in detected if s.sequence is sequence and sequence not in named]
        certainty = max((round(s.confidence, 1) for s in fitting), default=0.0)
        equal = [s.files[0].name for s in fitting if round(s.confidence, 1) == certainty]
        if len(equal) > 1:
            repeated[sequence] = equal
    if not repeated:
        return
    listed = "; ".join(
        f"{sequence.display_name}: {abbreviated_list([repr(n) for n in names], _MAX_LISTED_SERIES)}"
        for sequence, names in repeated.items()
    )
    series = {s: item for s, item in study.series.items() if s not in repeated}
    undecided = tuple(item for s, item in study.series.items() if s in repeated)
    raise UndecidedSeriesError(
        replace(study, series=series, set_aside=(*undecided, *study.set_aside)),
        found=f"several files of one sequence ({listed})",
        expected="one file of each sequence, of one examination of one patient",
        next_step=f"Choose one: {naming_advice(next(iter(repeated)))}; or give each examination a "
        "folder of its own",
        in_window=f"Choose one: {NAME_IN_WINDOW}; or give each examination a folder of its own",
    )


def nothing_recognised(study: Study) -> UndecidedSeriesError:
    """Return the error for a study in which no sequence was recognised, or no image was read."""
    if not study.set_aside:
        reasons = "; ".join(study.notices[:_MAX_LISTED_SERIES])
        return UndecidedSeriesError(
            study,
            found="no image that can be read" + (f": {reasons}" if reasons else ""),
            expected="at least one of T1, T1c, T2 and FLAIR",
            next_step="Convert the scan again, or choose another folder",
        )
    names = distinct_names(study.set_aside)
    descriptions = [
        f'"{name}" ({s.detected_by})' for name, s in zip(names, study.set_aside, strict=True)
    ]
    return UndecidedSeriesError(
        study,
        found=f"{len(descriptions)} series, none recognised as a sequence T1, T1c, T2 or FLAIR: "
        + abbreviated_list(descriptions, _MAX_LISTED_SERIES),
        expected="at least one of the four, by its name, a sidecar or the DICOM description",
        next_step=f"If you know a sequence, {naming_advice()}",
        in_window=f"If you know a sequence, {NAME_IN_WINDOW}",
    )
