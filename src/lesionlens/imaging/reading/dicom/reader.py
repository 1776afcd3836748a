"""DICOM reader: scan headers, select one study of one patient and one series per sequence."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from lesionlens.base.dates import day_of
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import NAME_IN_WINDOW, REFERENCE_ORDER, MrSequence, how_to_name
from lesionlens.base.records.patient import Patient, conflict_among, settle
from lesionlens.base.records.study import EvidenceKind, Series, SourceFile, Study, StudyKind
from lesionlens.base.text import writable
from lesionlens.imaging.reading import sequences, unlabelled_series
from lesionlens.imaging.reading.dicom import scan as dicom_scan
from lesionlens.imaging.reading.dicom.pixels import load_stack
from lesionlens.imaging.reading.dicom.scan import (
    MR_IMAGES,
    DicomSlice,
    Scan,
    looks_like_dicom,
    walk,
)
from lesionlens.imaging.reading.dicom.series import (
    Stack,
    acquisition,
    gap_problem,
    sort_series,
)
from lesionlens.imaging.reading.dicom.shared_positions import component
from lesionlens.imaging.reading.nifti import folder, reader
from lesionlens.imaging.reading.readers import ReadOptions
from lesionlens.imaging.reading.sequences import Guess
from lesionlens.imaging.reading.series_selection import (
    ListedStudy,
    NothingRecognisedError,
    choose,
    nothing_recognised,
    several_studies,
)

MIN_SLICES = 5
_LOOKED_AT = 500
_DERIVED_MAPS = frozenset(
    {
        "PROJECTION IMAGE", "MIP", "MNIP", "MAX IP", "MIN IP", "MAXIMUM", "MINIMUM", "ADC", "FA",
        "TRACEW", "SUB", "SUBTRACT", "SUBTRACTION", "MEAN", "DIFFUSION", "PERFUSION", "ASL",
        "VELOCITY", "QUANTITY", "T1MAP", "T2MAP", "F", "FAT", "SCREEN SAVE",
    }
)  # fmt: skip
"""Values of ImageType, with spaces for underscores, beside any "… MAP"; F and FAT are fat alone."""


@dataclass(frozen=True, slots=True)
class _Outside:
    """What the user's selection names outside the study."""

    patients: list[Patient] = field(default_factory=list)
    slices: list[DicomSlice] = field(default_factory=list)


class DicomReader:
    """Reads a folder of DICOM files, nested at any depth, with several series mixed."""

    name = "dicom"

    def claims(self, path: Path) -> float:
        """Return 0.95 if there is an MR image at any depth, 0.4 for other DICOM files."""
        if path.is_file():
            return 0.95 if looks_like_dicom(path) else 0.0
        other = 0
        for file in walk(path):
            if looks_like_dicom(file):
                kind = dicom_scan.sop_class(file)
                if kind in MR_IMAGES or not kind:
                    return 0.95 if kind else 0.6
                other += 1
                if other >= _LOOKED_AT:
                    return 0.95
        return 0.4 if other else 0.0

    def read(self, path: Path, named: Mapping[MrSequence, str], options: ReadOptions) -> Study:
        """Read the headers; see `readers.open_study`."""
        root = path.parent if path.name.upper() == "DICOMDIR" and path.is_file() else path
        files = options.files(root, walk)
        base = root.parent if root.is_file() else root
        found = dicom_scan.scan(files, options.context)
        if not found.slices:
            raise _no_images(found)
        slices = _one_study(found.slices, options)
        series, notices = _series_of(slices, base, found.contradictions)
        patients = [item.patient for item in slices]
        outside = _Outside()
        wanted, remarks = _selected_by_user(named, series, base, options, outside)
        patients += outside.patients
        remarks += _one_patient(patients, options)
        series, seen = unlabelled_series.judge_by_image(series, wanted, context=options.context)
        chosen, set_aside, why = choose(series, wanted)
        study = Study(
            name=writable(root.name or root.resolve().name),
            kind=StudyKind.DICOM,
            series=chosen,
            root=path,
            set_aside=set_aside,
            uid=slices[0].text("StudyInstanceUID"),
            patient=patients[0],
            notices=(
                *why,
                *_other_days([*slices, *outside.slices], chosen),
                *remarks,
                *seen,
                *_relevant(notices, chosen),
                *_beside(found),
            ),
        )
        if not chosen:
            raise _nothing_usable(study, found, notices)
        _refuse_uneven_reference(chosen, notices)
        return study


def _other_days(slices: list[DicomSlice], chosen: Mapping[MrSequence, Series]) -> tuple[str, ...]:
    """Return a notice if the chosen series were acquired more than a day apart."""
    found: dict[str, str] = {}
    for item in slices:
        keywords = ("AcquisitionDate", "AcquisitionDateTime", "StudyDate")
        acquired = next((day for day in map(item.text, keywords) if day), "")
        found.setdefault(item.text("SeriesInstanceUID"), acquired)
    days = {s: day_of(found.get(one.uid or "", "")) for s, one in chosen.items()}
    known = {s: day for s, day in days.items() if day is not None}
    if not known or (max(known.values()) - min(known.values())).days <= 1:
        return ()
    listed = ", ".join(f"{s.display_name} {day.isoformat()}" for s, day in known.items())
    return (f"The series were acquired days apart ({listed}): check that they are of one time.",)


def _no_images(found: Scan) -> UnusableInputError:
    parts = [
        f"{count} MR image(s) with {words}" for (_, words), count in found.problems.most_common(4)
    ]
    parts += [f"{count} x {kind}" for kind, count in found.other.most_common(6)]
    if found.dicomdir:
        parts.append("a DICOMDIR whose images are missing below this folder")
    return UnusableInputError(
        found=f"no MR image that can be read among {found.files} DICOM file(s): {'; '.join(parts)}",
        expected="MR images: classic, Enhanced or Legacy Converted, with their geometry",
        next_step="Choose the folder with the images themselves, or export them again",
    )


def _one_study(slices: list[DicomSlice], options: ReadOptions) -> list[DicomSlice]:
    """Return the slices of the only study, or of the one that the user selected."""
    wanted = options.study_uid
    groups: dict[str, list[DicomSlice]] = defaultdict(list)
    for item in slices:
        groups[item.text("StudyInstanceUID")].append(item)
    if wanted is not None and wanted in groups:
        return groups[wanted]
    if wanted is None:
        if len(groups) == 1:
            return slices
        _one_patient([item.patient for item in slices], options)
    listed = [
        ListedStudy(
            uid=uid,
            kind=StudyKind.DICOM,
            date=items[0].text("StudyDate"),
            description=items[0].text("StudyDescription"),
            series=len({item.text("SeriesInstanceUID") for item in items}),
            images=len(items),
        )
        for uid, items in groups.items()
    ]
    raise several_studies(listed, wanted)


def _one_patient(patients: Sequence[Patient], options: ReadOptions) -> tuple[str, ...]:
    """Return what the user confirmed about contradicting identities; empty if they agree."""
    notice = settle(
        conflict_among(patients),
        "the images of this folder",
        confirmed=options.same_patient,
        advice="Give each patient a folder of its own, or name one study with --study UID",
        in_window="Give each patient a folder of its own",
        patients=patients,
    )
    return (notice,) if notice else ()


def _series_of(
    slices: list[DicomSlice], root: Path, contradictions: Mapping[str, tuple[Path, Path]]
) -> tuple[list[Series], list[tuple[str, str]]]:
    """Build the volumes; with notices as (Series UID, text)."""
    groups: dict[str, list[DicomSlice]] = defaultdict(list)
    for item in slices:
        groups[item.text("SeriesInstanceUID")].append(item)
    made: list[Series] = []
    notices: list[tuple[str, str]] = []
    for uid, items in sorted(
        groups.items(), key=lambda g: (g[1][0].number("SeriesNumber") or 0, g[0])
    ):
        name = items[0].text("SeriesDescription")
        if uid in contradictions:
            one, other = (reader.shown_name(path, root) for path in contradictions[uid])
            words = f"{one!r} and {other!r} hold different images under one SOP Instance UID"
            notices.append((uid, f'Series "{name}" was set aside: {words}.'))
            continue
        sorted_out = sort_series(items)
        for words, count in Counter(sorted_out.problems).items():
            problem = f"{words} ({count} images)" if count > 1 else words
            notices.append((uid, f'Series "{name}": {problem}.'))
        if sorted_out.mosaics:
            words = (
                f"a Siemens mosaic of {sorted_out.mosaics} volume(s), as for function or diffusion"
            )
            notices.append((uid, f'Series "{name}" is {words}: set aside.'))
        for number, stack in enumerate(sorted_out.stacks):
            broken = gap_problem(stack)
            notices += [(uid, f'Series "{name}": {words}.') for words in stack.notices]
            if broken:
                notices.append((uid, f'Series "{name}" was set aside: {broken}.'))
                continue
            made.append(_series(stack, root, number))
    return made, notices


def _series(stack: Stack, root: Path, number: int) -> Series:
    guess = _guess(stack)
    first = stack.first
    if number > 0 and guess.sequence:  # later echoes, phases and remainders are second choice
        guess = replace(guess, confidence=max(guess.confidence - 0.2, 0.05))
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
            SourceFile(i.path, reader.shown_name(i.path, root), i.uid, i.text("SOPClassUID"))
            for i in nearest
        ),
        load=partial(load_stack, stack),
        description=first.text("SeriesDescription") or first.text("ProtocolName"),
        uid=first.text("SeriesInstanceUID"),
        frames=tuple(i.frame + 1 for i in nearest if i.frame is not None),
        even=stack.even,
        witness=guess.witness,
    )


def _guess(stack: Stack) -> Guess:
    """Identify the sequence of a stack: exclude other kinds first, then use words and timing."""
    first = stack.first
    kinds = {k.replace("_", " ") for k in (*first.texts("ImageType"), *first.texts("FrameType"))}
    count = len(stack.slices)
    never = (
        (kinds & {"LOCALIZER", "SCOUT"}, f"a localiser of {count} slice(s) by its ImageType"),
        (count < MIN_SLICES, f"only {count} slice(s): not a volume"),
        (component(first) != "M", "phase, real or imaginary part, not magnitude"),
        (
            kinds & _DERIVED_MAPS or any(kind.endswith(" MAP") for kind in kinds),
            "a derived map or projection by its ImageType",
        ),
    )
    reason = next((words for fits, words in never if fits), None)
    if reason:
        return Guess(None, reason, 0.95)
    guess = sequences.from_acquisition(acquisition(first))
    if "DERIVED" in kinds and guess.sequence is not None:
        evidence = f"{guess.evidence}; a derived image by its ImageType"
        return replace(guess, confidence=guess.confidence * 0.6, evidence=evidence)
    return guess


def _nothing_for(sequence: MrSequence, named: Mapping[MrSequence, str]) -> UnusableInputError:
    """Return the error for a selection without a series that is still free."""
    value = named[sequence]
    first = next(key for key, other in named.items() if other == value)
    if first is not sequence:
        return UnusableInputError(
            found=f"the same series for --{first.value} and --{sequence.value}: "
            f"{Path(value).name!r}",
            expected="another series for each sequence",
            next_step="Leave out the flag that does not fit",
        )
    return UnusableInputError(
        found=f"nothing usable for {sequence.display_name}: {Path(value).name!r}",
        expected="a Series UID within the study, a DICOM folder or a NIfTI file",
        next_step="Copy the Series UID from the list of series, or check the path",
    )


def _selected_by_user(
    named: Mapping[MrSequence, str],
    series: list[Series],
    root: Path,
    options: ReadOptions,
    outside: _Outside,
) -> tuple[dict[MrSequence, Series], list[str]]:
    """Resolve the user's selection: a Series UID, a DICOM folder or a NIfTI file.

    Patients and slices of files outside the study are added to `outside`.
    """
    out: dict[MrSequence, Series] = {}
    notices: list[str] = []
    for sequence, value in named.items():
        hits = [s for s in series if s.uid == value]
        place = None if hits else reader.named_place(value, root, sequence)
        if place is not None and place.is_file() and folder.is_nifti(place):
            out[sequence] = reader.series_of_file(place, root, sequence, notices)
            outside.patients.extend(reader.patients_of([place]))
            continue
        if place is not None:
            hits = _series_below(place, series, root, options, outside)
        if not hits:
            raise _nothing_for(sequence, named)
        best = max(hits, key=partial(_likeness, sequence))
        out[sequence] = replace(
            best,
            sequence=sequence,
            detected_by=f"--{sequence.value}, named by the user",
            confidence=1.0,
            witness=EvidenceKind.USER,
        )
        series.remove(best)
    return out, notices


def _likeness(wanted: MrSequence, series: Series) -> tuple[float, ...]:
    """Return a sort key of the volumes that a user's name fits, the likeliest last.

    One Series UID may name the echoes, the magnitude and the phase of an acquisition.
    """
    known = series.sequence is not None
    sure = series.confidence if known else -series.confidence  # surely none of the four
    return (series.sequence is wanted, known, sure, series.grid.shape[2])


def _series_below(
    place: Path,
    series: list[Series],
    root: Path,
    options: ReadOptions,
    outside: _Outside,
) -> list[Series]:
    """Return the series with files below a folder; a folder outside the study is read."""
    inside = place.resolve()
    hits = [
        s
        for s in series
        if any(inside in (f.path.resolve(), *f.path.resolve().parents) for f in s.files)
    ]
    if hits:
        return hits
    files = [place] if place.is_file() else list(walk(place))
    found = dicom_scan.scan(files, options.context)
    outside.patients.extend(item.patient for item in found.slices)
    outside.slices.extend(found.slices)
    made, _ = _series_of(found.slices, root, found.contradictions)
    series.extend(made)
    return made


def _nothing_usable(
    study: Study, found: Scan, notices: list[tuple[str, str]]
) -> NothingRecognisedError:
    """Return the error that states why no series could be used."""
    wrong = list(dict.fromkeys(words for _, words in notices))
    if study.set_aside and not wrong:
        return nothing_recognised(study)
    listed = list(dict.fromkeys(f'"{s.description}": {s.detected_by}.' for s in study.set_aside))
    return NothingRecognisedError(
        study,
        found="no series that can be used: " + " ".join((*wrong, *listed, *_beside(found)))[:1500],
        expected="a complete series of parallel, evenly spaced MR slices with position, "
        "orientation and pixel spacing, recognised as T1, T1c, T2 or FLAIR",
        next_step=f"Export the series again; where you know a sequence, {how_to_name()}",
        in_window=f"Export the series again; where you know a sequence, {NAME_IN_WINDOW}",
    )


def _refuse_uneven_reference(
    chosen: Mapping[MrSequence, Series], notices: list[tuple[str, str]]
) -> None:
    reference = next(chosen[s] for s in REFERENCE_ORDER if s in chosen)
    if not reference.even:
        raise UnusableInputError(
            found="a reference series, on whose images the results must lie, that is not whole: "
            + " ".join(words for uid, words in notices if uid == reference.uid),
            expected="every slice, evenly spaced",
            next_step="Fetch the series again, or leave it out by opening the other series alone",
        )


def _relevant(notices: list[tuple[str, str]], chosen: Mapping[MrSequence, Series]) -> list[str]:
    """Return the notices, those of the chosen series first."""
    used = {s.uid for s in chosen.values()}
    return [w for _, w in sorted(dict.fromkeys(notices), key=lambda notice: notice[0] not in used)]


def _beside(found: Scan) -> list[str]:
    """Return notices about other content of the folder."""
    notices = [
        f'{count} MR image(s) of series "{name}" were set aside: {words}.'
        for (name, words), count in found.problems.items()
    ]
    if found.other["damaged DICOM file"]:
        notices.append(f"{found.other['damaged DICOM file']} damaged DICOM file(s) were set aside.")
    if found.empty:
        notices.append(
            f"{found.empty} empty file(s) were set aside: slices at the end of a series may be "
            "missing."
        )
    if found.missing:
        notices.append(
            f"The DICOMDIR names {len(found.missing)} MR image(s) that were not found in the "
            "folder: series may be incomplete or missing."
        )
    if found.nifti:
        notices.append(
            f"Both DICOM and {found.nifti} NIfTI file(s) were found: the DICOM images were taken."
        )
    return notices
