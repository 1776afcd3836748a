"""DICOM reader: scan headers, select one study of one patient and one series per sequence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from lesionlens.base.dates import day_of
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import NAME_IN_WINDOW, REFERENCE_ORDER, MrSequence, naming_advice
from lesionlens.base.records.patient import Patient, conflict_among, settle
from lesionlens.base.records.study import Series, SourceFile, Study, StudyKind
from lesionlens.base.text import encodable
from lesionlens.imaging.reading.dicom import scan as dicom_scan
from lesionlens.imaging.reading.dicom.guess import guess_of, ranked, spine_among
from lesionlens.imaging.reading.dicom.pixels import load_stack
from lesionlens.imaging.reading.dicom.scan import (
    MR_IMAGES,
    DicomSlice,
    Scan,
    looks_like_dicom,
    walk,
)
from lesionlens.imaging.reading.dicom.series import Stack, gap_problem, repetitions, sort_series
from lesionlens.imaging.reading.nifti import folder, reader
from lesionlens.imaging.reading.readers import ReadOptions
from lesionlens.imaging.reading.sequences import Guess
from lesionlens.imaging.reading.series_selection import (
    ListedStudy,
    UndecidedSeriesError,
    choose,
    nothing_recognised,
    several_studies,
)


@dataclass(frozen=True, slots=True)
class _OutsideStudy:
    """What the user's selection names outside the study."""

    patients: list[Patient] = field(default_factory=list)
    slices: list[DicomSlice] = field(default_factory=list)


class DicomReader:
    """Reads a folder of DICOM files, nested at any depth, with several series mixed."""

    def claims(self, path: Path) -> float:
        """Return 0.95 if there is an MR image at any depth, 0.4 for other DICOM files."""
        if path.is_file():
            return 0.95 if looks_like_dicom(path) else 0.0
        has_others = False
        for file in walk(path):
            if looks_like_dicom(file):
                kind = dicom_scan.sop_class(file)
                if kind in MR_IMAGES or not kind:
                    return 0.95 if kind else 0.6
                has_others = True
        return 0.4 if has_others else 0.0

    def read(self, path: Path, named: Mapping[MrSequence, str], options: ReadOptions) -> Study:
        """Read the headers; see `readers.open_study`."""
        root = path.parent if path.name.upper() == "DICOMDIR" and path.is_file() else path
        files = options.files(root, walk)
        base = root.parent if root.is_file() else root
        content = dicom_scan.scan(files, options.context)
        if not (options.selected_paths or root.is_file()):
            content.unusable_files += dicom_scan.broken_links_in(root)
        if not content.slices:
            raise _no_images_error(content)
        slices = _select_study(content.slices, options)
        series, notices = _series_of(slices, base, content.contradictions)
        uid = slices[0].text("StudyInstanceUID")
        copies = (i for i in content.other_patients if i.text("StudyInstanceUID") == uid)
        patients = [item.patient for item in (*slices, *copies)]
        outside = _OutsideStudy()
        named_series, user_notices = _selected_by_user(named, series, base, options, outside)
        patients += outside.patients
        user_notices += _confirm_one_patient(patients, options)
        chosen, set_aside, choice_notices = choose(series, named_series)
        study = Study(
            name=encodable(root.name or root.resolve().name),
            kind=StudyKind.DICOM,
            series=chosen,
            root=path,
            set_aside=set_aside,
            uid=uid,
            patient=patients[0],
            has_report=uid in content.reported_studies,
            notices=(
                *choice_notices,
                *_days_apart_notices([*slices, *outside.slices], chosen),
                *user_notices,
                *_by_relevance(notices, chosen),
                *_other_content_notices(content),
            ),
        )
        if not chosen:
            raise _unusable_study_error(study, content, notices)
        _refuse_uneven_reference(chosen, notices)
        return study


def _days_apart_notices(
    slices: list[DicomSlice], chosen: Mapping[MrSequence, Series]
) -> tuple[str, ...]:
    """Return a notice if the chosen series were acquired more than a day apart."""
    date_by_uid: dict[str, str] = {}
    for item in slices:
        keywords = ("AcquisitionDate", "AcquisitionDateTime", "StudyDate")
        acquired = next((day for day in map(item.text, keywords) if day), "")
        date_by_uid.setdefault(item.text("SeriesInstanceUID"), acquired)
    days = {s: day_of(date_by_uid.get(series.uid or "", "")) for s, series in chosen.items()}
    known_days = {s: day for s, day in days.items() if day is not None}
    if not known_days or (max(known_days.values()) - min(known_days.values())).days <= 1:
        return ()
    listed = ", ".join(f"{s.display_name} {day.isoformat()}" for s, day in known_days.items())
    return (
        (
            f"The series were acquired days apart ({listed}): check that they belong to one "
            "examination."
        ),
    )


def _no_images_error(content: Scan) -> UnusableInputError:
    parts = [
        f"{count} MR image(s) with {problem}"
        for (_, problem), count in content.problems.most_common(4)
    ]
    parts += [f"{count} x {kind}" for kind, count in content.other_kinds.most_common(6)]
    if content.dicomdir:
        parts.append("a DICOMDIR whose images are missing below this folder")
    return UnusableInputError(
        found=f"no MR image that can be read among {content.files} DICOM file(s): "
        + "; ".join(parts),
        expected="MR images: classic, Enhanced or Legacy Converted, with their geometry",
        next_step="Choose the folder with the images themselves, or export them again",
    )


def _select_study(slices: list[DicomSlice], options: ReadOptions) -> list[DicomSlice]:
    """Return the slices of the only study, or of the one that the user selected."""
    requested = options.study_uid
    groups = dicom_scan.grouped(slices, "StudyInstanceUID")
    if requested is not None and requested in groups:
        return groups[requested]
    if requested is None:
        if len(groups) == 1:
            return slices
        _confirm_one_patient([item.patient for item in slices], options)
    listed = [
        ListedStudy(
            uid=uid,
            kind=StudyKind.DICOM,
            date=items[0].text("StudyDate"),
            description=items[0].text("StudyDescription"),
            series=len(dicom_scan.grouped(items, "SeriesInstanceUID")),
            images=len(items),
        )
        for uid, items in groups.items()
    ]
    raise several_studies(listed, requested)


def _confirm_one_patient(patients: Sequence[Patient], options: ReadOptions) -> tuple[str, ...]:
    """Return what the user confirmed about contradicting identities; empty if they agree."""
    notice = settle(
        conflict_among(patients),
        "the images of this folder",
        confirmed=options.same_patient,
        advice="Give each patient a separate folder, or name one study with --study UID",
        in_window="Give each patient a separate folder",
        patients=patients,
    )
    return (notice,) if notice else ()


def _series_of(
    slices: list[DicomSlice], root: Path, contradictions: Mapping[str, tuple[Path, Path]]
) -> tuple[list[Series], list[tuple[str, str]]]:
    """Build the volumes; with notices as (Series UID, text)."""
    groups = dicom_scan.grouped(slices, "SeriesInstanceUID")
    volumes: list[Series] = []
    notices: list[tuple[str, str]] = []
    spine_uids = spine_among(groups)
    for uid, items in sorted(
        groups.items(), key=lambda g: (g[1][0].number("SeriesNumber") or 0, g[0])
    ):
        name = items[0].text("SeriesDescription")
        if uid in contradictions:
            first, second = (reader.relative_name(path, root) for path in contradictions[uid])
            text = f"{first!r} and {second!r} differ, but have the same SOP Instance UID"
            notices.append((uid, f'Series "{name}" was set aside: {text}.'))
            continue
        sorted_series = sort_series(items)
        for text, count in Counter(sorted_series.problems).items():
            problem = f"{text} ({count} images)" if count > 1 else text
            notices.append((uid, f'Series "{name}": {problem}.'))
        if sorted_series.mosaics:
            count = sorted_series.mosaics
            text = f"a Siemens mosaic of {count} volume(s), as for functional or diffusion imaging"
            notices.append((uid, f'Series "{name}" is {text}: set aside.'))
        repeated = repetitions(sorted_series.stacks)
        is_spine = uid in spine_uids
        for number, stack in enumerate(sorted_series.stacks):
            gap = gap_problem(stack)
            notices += [(uid, f'Series "{name}": {text}.') for text in stack.notices]
            if gap:
                notices.append((uid, f'Series "{name}" was set aside: {gap}.'))
                continue
            guess = guess_of(stack, is_spine=is_spine)
            volumes.append(_series(stack, root, ranked(guess, number, *repeated[number])))
    return volumes, notices


def _series(stack: Stack, root: Path, guess: Guess) -> Series:
    first = stack.first
    nearest = [
        stack.slices[int(np.abs(stack.depth_mm - depth).argmin())]
        for depth in np.linspace(0.0, float(stack.depth_mm[-1]), stack.grid.shape[2])
    ]
    return Series(
        sequence=guess.sequence,
        detected_by=guess.evidence,
        confidence=guess.confidence,
        grid=stack.grid,
        files=tuple(
            SourceFile(
                i.path,
                reader.relative_name(i.path, root),
                i.uid,
                i.text("SOPClassUID"),
                i.patient,
                i.text("StudyInstanceUID"),
            )
            for i in nearest
        ),
        load=partial(load_stack, stack),
        description=first.text("SeriesDescription") or first.text("ProtocolName"),
        uid=first.text("SeriesInstanceUID"),
        frames=tuple(i.frame + 1 for i in nearest if i.frame is not None),
        even=stack.even,
    )


def _no_series_error(sequence: MrSequence, named: Mapping[MrSequence, str]) -> UnusableInputError:
    """Return the error for a selection without a series that is still free."""
    value = named[sequence]
    first_sequence = next(key for key, other in named.items() if other == value)
    if first_sequence is not sequence:
        return _same_series_error(first_sequence, sequence, value)
    return UnusableInputError(
        found=f"nothing usable for {sequence.display_name}: {Path(value).name!r}",
        expected="a Series UID within the study, a DICOM folder or a NIfTI file",
        next_step="Copy the Series UID from the list of series, or check the path",
    )


def _same_series_error(first: MrSequence, second: MrSequence, value: str) -> UnusableInputError:
    return UnusableInputError(
        found=f"the same series for --{first.value} and --{second.value}: {Path(value).name!r}",
        expected="another series for each sequence",
        next_step="Leave out the flag that does not fit",
    )


def _selected_by_user(
    named: Mapping[MrSequence, str],
    series: list[Series],
    root: Path,
    options: ReadOptions,
    outside: _OutsideStudy,
) -> tuple[dict[MrSequence, Series], list[str]]:
    """Resolve the user's selection: a Series UID, a DICOM folder or a NIfTI file.

    Patients and slices of files outside the study are added to `outside`.
    """
    selected: dict[MrSequence, Series] = {}
    notices: list[str] = []
    for sequence, value in named.items():
        matches = [s for s in series if s.uid == value]
        path = None if matches else reader.named_path(value, root, sequence)
        if path is not None:
            matches = [s for s in series if _lies_below(s, path)]
            taken = next((s for s, other in selected.items() if _lies_below(other, path)), None)
            if taken is not None and not matches:
                raise _same_series_error(taken, sequence, value)
        if path is not None and path.is_file() and folder.is_nifti(path):
            selected[sequence] = reader.series_of_file(path, root, sequence, notices)
            outside.patients.extend(reader.patients_of([path]))
            continue
        if path is not None and not matches:
            matches = _series_outside(path, series, root, options, outside)
        if not matches:
            raise _no_series_error(sequence, named)
        if sequence is MrSequence.T1C:  # the last volume of a dynamic series has the agent
            matches = matches[::-1]
        best = max(matches, key=partial(_match_rank, sequence))
        selected[sequence] = replace(
            best,
            sequence=sequence,
            detected_by=f"--{sequence.value}, named by the user",
            confidence=1.0,
        )
        series.remove(best)
    return selected, notices


def _match_rank(requested: MrSequence, series: Series) -> tuple[float, ...]:
    """Return a sort key of the volumes that a user's name fits, the likeliest last.

    One Series UID may name the echoes, the magnitude and the phase of an acquisition.
    """
    is_identified = series.sequence is not None
    # A confident "none of the four" is the least likely match.
    certainty = series.confidence if is_identified else -series.confidence
    return (series.sequence is requested, is_identified, certainty, series.grid.shape[2])


def _lies_below(series: Series, path: Path) -> bool:
    """Return whether a file of a series is this file, or lies below this folder."""
    resolved = path.resolve()
    files = (file.path.resolve() for file in series.files)
    return any(resolved in (file, *file.parents) for file in files)


def _series_outside(
    path: Path, series: list[Series], root: Path, options: ReadOptions, outside: _OutsideStudy
) -> list[Series]:
    """Read the series of a file or folder outside the study; add them to `series`."""
    files = [path] if path.is_file() else list(walk(path))
    content = dicom_scan.scan(files, options.context)
    outside.patients.extend(i.patient for i in (*content.slices, *content.other_patients))
    outside.slices.extend(content.slices)
    volumes, _ = _series_of(content.slices, root, content.contradictions)
    series.extend(volumes)
    return volumes


def _unusable_study_error(
    study: Study, content: Scan, notices: list[tuple[str, str]]
) -> UndecidedSeriesError:
    """Return the error that states why no series could be used."""
    problems = list(dict.fromkeys(text for _, text in notices))
    if study.set_aside and not problems:
        return nothing_recognised(study)
    listed = list(dict.fromkeys(f'"{s.description}": {s.detected_by}.' for s in study.set_aside))
    return UndecidedSeriesError(
        study,
        found="no series that can be used: "
        + " ".join((*problems, *listed, *_other_content_notices(content)))[:1500],
        expected="a complete series of parallel, evenly spaced MR slices with position, "
        "orientation and pixel spacing, recognised as T1, T1c, T2 or FLAIR",
        next_step=f"Export the series again; if you know a sequence, {naming_advice()}",
        in_window=f"Export the series again; if you know a sequence, {NAME_IN_WINDOW}",
    )


def _refuse_uneven_reference(
    chosen: Mapping[MrSequence, Series], notices: list[tuple[str, str]]
) -> None:
    reference = next(chosen[s] for s in REFERENCE_ORDER if s in chosen)
    if not reference.even:
        raise UnusableInputError(
            found="an incomplete reference series, whose slices the results must match: "
            + " ".join(text for uid, text in notices if uid == reference.uid),
            expected="every slice, evenly spaced",
            next_step="Fetch the series again, or open the other series without it",
        )


def _by_relevance(notices: list[tuple[str, str]], chosen: Mapping[MrSequence, Series]) -> list[str]:
    """Return the notices, those of the chosen series first."""
    chosen_uids = {s.uid for s in chosen.values()}
    ordered = sorted(dict.fromkeys(notices), key=lambda notice: notice[0] not in chosen_uids)
    return [text for _, text in ordered]


def _other_content_notices(content: Scan) -> list[str]:
    """Return notices about other content of the folder."""
    notices = [
        f'{count} MR image(s) of series "{name}" were set aside: {problem}.'
        for (name, problem), count in content.problems.items()
    ]
    lost = content.lost
    if lost:
        notices.append(
            f"{lost} file(s) are empty, damaged, too large or missing: series may be incomplete or "
            "missing."
        )
    if content.nifti_files:
        notices.append(
            f"Both DICOM and {content.nifti_files} NIfTI file(s) were found: the "
            "DICOM images were used."
        )
    return notices
