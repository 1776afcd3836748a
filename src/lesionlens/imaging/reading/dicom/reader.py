"""DICOM reader: one study of one patient, its series, and which of the four sequences each is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.files import is_volume_name
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.patient import Patient, conflict_among, settle
from lesionlens.base.records.study import Series, SourceFile, Study, StudyKind
from lesionlens.base.text import day_of, encodable
from lesionlens.imaging.reading import sequences
from lesionlens.imaging.reading.dicom.files import (
    MR_IMAGES,
    Frame,
    Scan,
    looks_like_dicom,
    scan,
    sop_class,
    walk,
)
from lesionlens.imaging.reading.dicom.pixels import load
from lesionlens.imaging.reading.dicom.series import (
    Volume,
    component,
    volumes,
    with_joined_uids,
)
from lesionlens.imaging.reading.open import (
    ListedStudy,
    ReadOptions,
    choose,
    named_path,
    nothing_recognised,
    relative_name,
    several_studies,
)
from lesionlens.imaging.reading.sequences import AcquisitionParameters, Guess

_MIN_SLICES, _MIN_DYNAMIC = 5, 3
"""Fewest slices of a volume, and fewest volumes of a dynamic series."""
_DERIVED_MAPS = frozenset(
    {
        "PROJECTION IMAGE", "MIP", "MNIP", "MAX IP", "MIN IP", "MAXIMUM", "MINIMUM", "ADC", "FA",
        "TRACEW", "SUB", "SUBTRACT", "SUBTRACTION", "MEAN", "DIFFUSION", "PERFUSION", "ASL",
        "VELOCITY", "QUANTITY", "T1MAP", "T2MAP", "F", "FAT", "OP", "OPP PHASE", "OUT PHASE",
        "SCREEN SAVE",
    }
)  # fmt: skip
"""Values of ImageType, with spaces for underscores, beside any "… MAP"; F and FAT are fat alone, OP
is the opposed phase."""


@dataclass(slots=True)
class _Found:
    """The series of some files, and what is to be said about them."""

    series: list[Series] = field(default_factory=list)
    notices: list[tuple[str, str]] = field(default_factory=list)
    """(Series Instance UID, sentence)."""
    dates: dict[str, str] = field(default_factory=dict)
    """Acquisition date by Series Instance UID."""
    patients: list[Patient] = field(default_factory=list)


def claims(path: Path) -> float:
    """Return 1 if there is an MR image at any depth, 0.4 for other DICOM files."""
    if path.is_file():
        return 1.0 if looks_like_dicom(path) else 0.0
    has_others = False
    for file in filter(looks_like_dicom, walk(path)):
        kind = sop_class(file)
        if kind in MR_IMAGES or not kind:
            return 1.0 if kind else 0.6
        has_others = True
    return 0.4 if has_others else 0.0


def read(path: Path, named: Mapping[MrSequence, str], options: ReadOptions) -> Study:
    """Read the headers of a study; see `open.open_study`."""
    root = path.parent if path.name.upper() == "DICOMDIR" and path.is_file() else path
    base = root.parent if root.is_file() else root
    content = scan(options.files(root, walk), options.context)
    if not content.frames:
        raise _no_images_error(content)
    content.frames, joined = with_joined_uids(content.frames)
    frames, joined_studies = _select_study(content.frames, options)
    found = _series_of(frames, content, base)
    by_user, user_notices = _selected_by_user(named, found, base, options)
    user_notices += _confirm_one_patient(found.patients, options)
    chosen, set_aside, choice_notices = choose(found.series, by_user)
    chosen_uids = {series.uid for series in chosen.values()}
    ordered = sorted(dict.fromkeys(found.notices), key=lambda note: note[0] not in chosen_uids)
    notices = [*joined, *joined_studies, *(text for _, text in ordered)]
    uid = frames[0].text("StudyInstanceUID")
    study = Study(
        name=encodable(root.name or root.resolve().name),
        kind=StudyKind.DICOM,
        series=chosen,
        root=path,
        set_aside=set_aside,
        uid=uid,
        patient=found.patients[0],
        notices=(
            *choice_notices, *_days_apart(found, chosen), *user_notices, *notices,
            *_other_content(content),
        ),
        has_report=uid in content.reported_studies,
    )  # fmt: skip
    if not chosen:
        raise nothing_recognised(study)
    return study


def _no_images_error(content: Scan) -> UnusableInputError:
    parts = [f"{count} MR image(s) of {text}" for text, count in content.set_aside.most_common(4)]
    parts += [f"{count} x {kind}" for kind, count in content.other_kinds.most_common(6)]
    return UnusableInputError(
        f"No MR image can be read among {content.files} DICOM file(s): {'; '.join(parts)}.",
        hint="Choose the folder with the MR images themselves, or export them again.",
    )


def _other_content(content: Scan) -> list[str]:
    """Return notices about other content of the folder."""
    notices = [
        f"{count} MR image(s) were set aside: series {text}."
        for text, count in content.set_aside.items()
    ]
    if content.unusable_files:
        notices.append(
            f"{content.unusable_files} file(s) are empty, damaged or missing: series may be "
            "incomplete or missing."
        )
    if content.nifti_files:
        notices.append(
            f"Both DICOM and {content.nifti_files} NIfTI file(s) were found: the DICOM images were "
            "used."
        )
    return notices


def _grouped(frames: Iterable[Frame], keyword: str) -> dict[str, list[Frame]]:
    groups: dict[str, list[Frame]] = defaultdict(list)
    for frame in frames:
        groups[frame.text(keyword)].append(frame)
    return groups


def _select_study(frames: list[Frame], options: ReadOptions) -> tuple[list[Frame], tuple[str, ...]]:
    """Return the frames of the only study, or of the one that the user selected; with notices.

    Studies of one series each, of one patient at one date and time in one frame of reference (or
    none), are one examination whose series got a Study Instance UID each.
    """
    groups = _grouped(frames, "StudyInstanceUID")
    if options.study_uid in groups:
        return groups[options.study_uid], ()
    if options.study_uid is None:
        if len(groups) == 1:
            return frames, ()
        _confirm_one_patient([frame.patient for frame in frames], options)
        keys = ("FrameOfReferenceUID", "PatientID", "StudyDate", "StudyTime")
        common = {tuple(map(frame.text, keys)) for frame in frames}
        series = (_grouped(g, "SeriesInstanceUID") for g in groups.values())
        numbers = {frame.text("SeriesNumber") for frame in frames}
        single = all(len(one) == 1 for one in series) and len(numbers) == len(groups)
        if single and len(common) == 1 and all(next(iter(common))[1:]):
            first = min(frames, key=lambda frame: frame.number_of("SeriesNumber") or 0.0)
            shared = {"StudyInstanceUID": first.values["StudyInstanceUID"]}
            return [replace(f, values={**f.values, **shared}) for f in frames], (
                f"Each of the {len(groups)} series has its own Study Instance UID; they were read "
                "as one study, since patient, date, time and frame of reference are the same.",
            )
    listed = [
        ListedStudy(
            uid=uid,
            kind=StudyKind.DICOM,
            date=items[0].text("StudyDate"),
            description=items[0].text("StudyDescription"),
            series=len(_grouped(items, "SeriesInstanceUID")),
            images=len(items),
        )
        for uid, items in groups.items()
    ]
    raise several_studies(listed, options.study_uid)


def _confirm_one_patient(patients: Iterable[Patient], options: ReadOptions) -> tuple[str, ...]:
    """Return what the user confirmed about contradicting identities; empty if they agree."""
    distinct = list(dict.fromkeys(patients))
    notice = settle(
        conflict_among(distinct),
        "the images of this folder",
        confirmed=options.same_patient,
        advice="Give each patient a separate folder, or name one study with --study UID",
        in_window="Give each patient a separate folder",
        patients=distinct,
    )
    return (notice,) if notice else ()


def _series_of(frames: list[Frame], content: Scan, root: Path) -> _Found:
    """Make the series of some frames."""
    uids = {frame.uid for frame in frames}
    copies = (copy for copy in content.copies if copy.uid in uids)
    found = _Found(patients=list(dict.fromkeys(f.patient for f in (*frames, *copies))))
    groups = _grouped(frames, "SeriesInstanceUID")
    spine = {u for u, g in groups.items() if "SPINE" in g[0].text("BodyPartExamined").upper()}
    if len(spine) == len(groups):  # brain and spine may be registered as the spine
        spine = set()
    for uid, items in sorted(
        groups.items(), key=lambda g: (g[1][0].number_of("SeriesNumber") or 0.0, g[0])
    ):
        first = items[0]
        name = f'Series "{first.text("SeriesDescription")}"'
        keywords = ("AcquisitionDate", "AcquisitionDateTime", "StudyDate")
        found.dates[uid] = next(filter(None, map(first.text, keywords)), "")
        if uid in content.contradictions:
            one, other = (relative_name(path, root) for path in content.contradictions[uid])
            text = f"{one!r} and {other!r} differ, but have the same SOP Instance UID"
            found.notices.append((uid, f"{name} was set aside: {text}."))
            continue
        made, reasons = volumes(items)
        found.notices += [(uid, f"{name}: {text}.") for text in reasons]
        kinds = [_kind(volume) for volume in made]
        for number, volume in enumerate(made):
            found.notices += [(uid, f"{name}: {text}.") for text in volume.notices]
            guess = _guess_of(volume, is_spine=uid in spine)
            before, count = kinds[:number].count(kinds[number]), kinds.count(kinds[number])
            found.series.append(_series(volume, root, _ranked(guess, number, before, count)))
    return found


def _series(volume: Volume, root: Path, guess: Guess) -> Series:
    first = volume.frames[0]
    return Series(
        sequence=guess.sequence,
        detected_by=guess.evidence,
        confidence=guess.confidence,
        grid=volume.grid,
        files=tuple(
            SourceFile(
                frame.path,
                relative_name(frame.path, root),
                frame.uid,
                frame.text("SOPClassUID"),
                frame.patient,
                frame.text("StudyInstanceUID"),
            )
            for frame in volume.frames
        ),
        load=partial(load, volume),
        description=first.text("SeriesDescription") or first.text("ProtocolName"),
        uid=first.text("SeriesInstanceUID"),
        frames=tuple(frame.number for frame in volume.frames if frame.number is not None),
    )


def _kind(volume: Volume) -> tuple[object, ...]:
    """Return what the repetitions of a volume in its series share."""
    first = volume.frames[0]
    texts = map(first.texts, ("ImageType", "FrameType", "StackID"))
    geometry = np.round(volume.grid.affine, 1).ravel().tolist()
    te = first.number_of("EffectiveEchoTime") or first.number_of("EchoTime") or 0.0
    return (component(first), *texts, *geometry, volume.grid.shape, round(te, 1))


def _guess_of(volume: Volume, *, is_spine: bool) -> Guess:
    """Identify the sequence of a volume: exclude other kinds first, then use words and timing."""
    first, count = volume.frames[0], len(volume.frames)
    kinds = {k.replace("_", " ") for k in (*first.texts("ImageType"), *first.texts("FrameType"))}
    is_map = kinds & _DERIVED_MAPS or any(kind.endswith(" MAP") for kind in kinds)
    exclusions = (
        (kinds & {"LOCALIZER", "SCOUT"}, f"a localiser of {count} slice(s) by its ImageType"),
        (count < _MIN_SLICES, f"only {count} slice(s): not a volume"),
        (is_spine, "the spine by its BodyPartExamined"),
        (component(first) != "M", "phase, real or imaginary part, not magnitude"),
        (is_map, "a derived map or projection by its ImageType"),
    )
    if reason := next((text for applies, text in exclusions if applies), None):
        return Guess(None, reason, 0.95)
    guess = sequences.from_acquisition(acquisition(first))
    if "DERIVED" in kinds and guess.sequence is not None:
        evidence = f"{guess.evidence}; a derived image by its ImageType"
        return replace(guess, confidence=guess.confidence * 0.6, evidence=evidence)
    return guess


def acquisition(frame: Frame) -> AcquisitionParameters:
    """Return the acquisition parameters of a frame, from classic or Enhanced attributes."""
    agent = frame.text("ContrastBolusAgent")
    if not agent and (agents := frame.values.get("ContrastBolusAgentSequence")):
        agent = str(agents[0].get("CodeMeaning") or "agent")
    if frame.text("ContrastBolusAgentAdministered").upper() == "NO":  # of this frame
        agent = ""
    planar = ("EP",) if frame.text("EchoPlanarPulseSequence") == "YES" else ()
    echoes = {"SPIN": ("SE",), "GRADIENT": ("GR",), "BOTH": ("SE", "GR")}  # of Enhanced MR
    echo = echoes.get(frame.text("EchoPulseSequence"), ())
    times = (*frame.numbers("InversionTime"), *frame.numbers("InversionTimes"), None)
    return AcquisitionParameters(
        description=frame.text("SeriesDescription"),
        protocol=frame.text("ProtocolName"),
        scanning_sequence=(*frame.texts("ScanningSequence"), *planar, *echo),
        te_ms=frame.number_of("EffectiveEchoTime") or frame.number_of("EchoTime"),
        tr_ms=frame.number_of("RepetitionTime"),
        ti_ms=times[0],
        agent=agent,
    )


def _ranked(guess: Guess, number: int, repetition: int, count: int) -> Guess:
    """Lower the confidence if another volume of the series is preferred.

    Later echoes, phases and remainders are second choice. Three or more volumes of T1c are a
    dynamic series: its first is from before the agent arrives, so that the last is preferred.
    """
    if guess.sequence is not MrSequence.T1C or count < _MIN_DYNAMIC:
        lower = 0.2 if number > 0 and guess.sequence else 0.0
        return replace(guess, confidence=max(guess.confidence - lower, 0.05))
    lower = 0.3 if repetition == count - 1 else 0.5
    evidence = f"{guess.evidence}; volume {repetition + 1} of {count} in its series"
    return replace(guess, confidence=max(guess.confidence - lower, 0.05), evidence=evidence)


def _days_apart(found: _Found, chosen: Mapping[MrSequence, Series]) -> tuple[str, ...]:
    """Return a notice if the chosen series were acquired more than a day apart."""
    days = {s: day_of(found.dates.get(series.uid or "", "")) for s, series in chosen.items()}
    known = {s: day for s, day in days.items() if day is not None}
    if not known or (max(known.values()) - min(known.values())).days <= 1:
        return ()
    listed = ", ".join(f"{s.display_name} {day.isoformat()}" for s, day in known.items())
    return (f"The series were acquired days apart ({listed}): are they of one examination?",)


def _selected_by_user(
    named: Mapping[MrSequence, str], found: _Found, root: Path, options: ReadOptions
) -> tuple[dict[MrSequence, Series], list[str]]:
    """Resolve the user's selection: a Series UID, a DICOM folder or a NIfTI file; with notices.

    Series, patients and dates of files outside the study are added to `found`.
    """
    selected: dict[MrSequence, Series] = {}
    notices: list[str] = []
    for sequence, value in named.items():
        matches = [s for s in found.series if s.uid == value]
        path = None if matches else named_path(value, root, sequence)
        taken = next((s for s, v in named.items() if v == value and s in selected), None)
        if path is not None:
            matches = [s for s in found.series if _lies_below(s, path)]
            taken = next((s for s, other in selected.items() if _lies_below(other, path)), taken)
        if taken is not None and not matches:
            raise UnusableInputError(
                f"--{taken.value} and --{sequence.value} name the same series: "
                f"{Path(value).name!r}.",
                hint="Leave out the flag that does not fit.",
            )
        if path is not None and path.is_file() and is_volume_name(path.name):
            from lesionlens.imaging.reading import nifti

            selected[sequence] = nifti.series_of_file(path, root, sequence, notices)
            found.patients += nifti.patients_of([path])
            continue
        if path is not None and not matches:
            content = scan([path] if path.is_file() else list(walk(path)), options.context)
            content.frames, joined = with_joined_uids(content.frames)
            outside = _series_of(content.frames, content, root)
            notices += joined
            matches = outside.series
            found.series += matches
            found.patients += outside.patients
            found.dates = {**outside.dates, **found.dates}
        if not matches:
            raise UnusableInputError(
                f"Nothing usable for {sequence.display_name}: {Path(value).name!r}.",
                hint="Name a Series UID within the study, a DICOM folder or a NIfTI file.",
            )
        if sequence is MrSequence.T1C:  # the last volume of a dynamic series has the agent
            matches = matches[::-1]
        best = max(matches, key=partial(_match_rank, sequence))
        evidence = f"--{sequence.value}, named by the user"
        selected[sequence] = replace(best, sequence=sequence, detected_by=evidence, confidence=1.0)
        found.series.remove(best)
    return selected, notices


def _match_rank(requested: MrSequence, series: Series) -> tuple[float, ...]:
    """Return a sort key of the volumes that a user's name fits, the likeliest last.

    One Series UID may name the echoes, the magnitude and the phase of an acquisition.
    """
    is_identified = series.sequence is not None
    certainty = series.confidence if is_identified else -series.confidence
    return (series.sequence is requested, is_identified, certainty, series.grid.shape[2])


def _lies_below(series: Series, path: Path) -> bool:
    """Return whether a file of a series is this file, or lies below this folder."""
    resolved = path.resolve()
    files = (file.path.resolve() for file in series.files)
    return any(resolved in (file, *file.parents) for file in files)
