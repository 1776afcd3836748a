"""NIfTI reader: a folder, a BIDS session or one file; with BIDS and dcm2niix sidecars."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from lesionlens.base.errors import LesionLensError, ReadError, UnusableInputError
from lesionlens.base.files.bounded_read import read_json
from lesionlens.base.labels import MrSequence, how_to_name
from lesionlens.base.records.patient import Patient, conflict_among, settle
from lesionlens.base.records.study import EvidenceKind, Series, SourceFile, Study, StudyKind
from lesionlens.base.text import writable
from lesionlens.imaging.reading import bids, sequences, unlabelled_series
from lesionlens.imaging.reading.nifti import folder, names
from lesionlens.imaging.reading.nifti.folder import is_nifti
from lesionlens.imaging.reading.nifti.header import read_header
from lesionlens.imaging.reading.nifti.voxels import read_voxels
from lesionlens.imaging.reading.readers import ReadOptions
from lesionlens.imaging.reading.series_selection import choose, nothing_recognised

_MAX_SIDECAR = 4 * 2**20
"""Maximum bytes of a JSON sidecar; a larger one is ignored."""
_OTHER_FORMATS = frozenset({".img", ".mha", ".mhd", ".mgz", ".mgh", ".nrrd", ".nhdr", ".mnc"})


class NiftiReader:
    """Reads a folder of NIfTI files, a BIDS session or one NIfTI file."""

    name = "nifti"

    def claims(self, path: Path) -> float:
        """Return 1 for a NIfTI file, 0.9 for a folder with one at any depth."""
        if path.is_file():
            return 1.0 if is_nifti(path) else 0.0
        return 0.9 if next(folder.walk(path), None) else 0.0

    def read(self, path: Path, named: Mapping[MrSequence, str], options: ReadOptions) -> Study:
        """Read the headers; see `readers.open_study`."""
        root = path if path.is_dir() else path.parent
        files = options.files(path, folder.walk)
        everything = files
        if not all(place.is_file() for place in options.among or (path,)):
            files = folder.one_study(files, root, options.study_uid)
        notices: list[str] = []
        wanted = {seq: _resolve(value, root, seq) for seq, value in named.items()}
        _refuse_repeats(wanted)
        user_named = {p.resolve(): seq for seq, p in wanted.items()}
        named_series = {seq: series_of_file(p, root, seq, notices) for seq, p in wanted.items()}
        found: list[Series] = []
        for number, file in enumerate(files):
            options.context.check("opening the study")
            options.context.progress("open", number / len(files))
            if file.resolve() not in user_named:
                series = _detected(file, root, notices)
                if series is not None:
                    found.append(series)
        found, seen = unlabelled_series.judge_by_image(found, wanted, context=options.context)
        chosen, set_aside, remarks = choose(found, named_series)
        if path.is_dir() and not options.among:
            notices += _in_other_formats({file.parent for file in files}, chosen)
            notices += _further_down(everything, files, root, chosen)
        files = [s.files[0].path for s in chosen.values()]
        confirmed = _one_patient(files, options)
        doubt = names.doubt(s.files[0].path.name for s in chosen.values() if _detected_here(s))
        study = Study(
            name=bids.name_of(file.name for file in files)
            or writable(path.name or path.resolve().name),
            kind=StudyKind.NIFTI,
            series=chosen,
            root=path,
            set_aside=set_aside,
            patient=next(iter(patients_of(files)), Patient()),
            notices=(*([doubt] if doubt else []), *confirmed, *remarks, *seen, *notices),
        )
        if not chosen:
            raise nothing_recognised(study)
        return study


def _in_other_formats(folders: Iterable[Path], chosen: Collection[MrSequence]) -> list[str]:
    """Return a notice for each absent sequence that has a file in a format that is not read."""
    named = (
        (path, sequences.from_name(path.name).sequence)
        for place in sorted(folders)
        for path in sorted(place.iterdir())
        if path.suffix.lower() in _OTHER_FORMATS
    )
    return [
        f"{writable(path.name)!r} was not read, only NIfTI (.nii, .nii.gz) is: convert it to use "
        f"it as {sequence.display_name}."
        for path, sequence in named
        if sequence is not None and sequence not in chosen
    ]


def _further_down(
    everything: Iterable[Path], files: Sequence[Path], root: Path, chosen: Collection[MrSequence]
) -> list[str]:
    """Return a notice for each absent sequence that has a file in a folder below the study's."""
    if any(file.parent != root for file in files):
        return []
    first: dict[MrSequence, Path] = {}
    for path in everything:
        sequence = sequences.from_name(path.name).sequence
        if path.parent != root and sequence is not None and sequence not in chosen:
            first.setdefault(sequence, path)
    return [
        f"{shown_name(path, root)!r} was not read, since the folder itself has images: if it is "
        f"of this study, {how_to_name(sequence)}."
        for sequence, path in first.items()
    ]


def _detected_here(series: Series) -> bool:
    """Return whether nobody named a series and its file has no BIDS subject."""
    subject, _ = bids.entities(series.files[0].path.name)
    return series.witness is not EvidenceKind.USER and not subject


def named_place(value: str, root: Path, sequence: MrSequence) -> Path | None:
    """Return the file or folder that the user named, by its path or its path within the study.

    Raises
    ------
    UnusableInputError
        There are both, and they are not the same: one may be another patient's.
    """
    places = {one.resolve(): one for one in (Path(value).absolute(), root / value) if one.exists()}
    if len(places) > 1:
        raise UnusableInputError(
            found=f"{value!r} for --{sequence.value} both in the study and in the working folder",
            expected="one of them",
            next_step="Name it by its full path",
        )
    return next(iter(places.values()), None)


def _resolve(value: str, root: Path, sequence: MrSequence) -> Path:
    place = named_place(value, root, sequence)
    if place is not None and place.is_file():
        return place
    if place is not None and place.is_dir():
        raise UnusableInputError(
            found=f"a folder for --{sequence.value}: {place.name!r}",
            expected="a NIfTI file, as the study has",
            next_step="Analyse the DICOM folder and name the NIfTI files of the other "
            "sequences, as with --flair FILE; or convert the series to NIfTI",
            in_window="Open the DICOM folder, then name the NIfTI files of the other "
            "sequences; or convert the series to NIfTI",
        )
    raise UnusableInputError(
        found=f"no such file for --{sequence.value}: {Path(value).name!r}",
        expected="a NIfTI file, named by its path, or by its path within the study",
        next_step="Check the spelling; the flag of another sequence takes another file",
        in_window="Check that the file is still there",
    )


def _refuse_repeats(wanted: Mapping[MrSequence, Path]) -> None:
    seen: dict[Path, MrSequence] = {}
    for sequence, path in wanted.items():
        first = seen.setdefault(path.resolve(), sequence)
        if first is not sequence:
            raise UnusableInputError(
                found=f"the same file for --{first.value} and --{sequence.value}: {path.name!r}",
                expected="another file for each sequence",
                next_step="Leave out the flag that does not fit",
                in_window="Choose other series under “change…”",
            )


def series_of_file(path: Path, root: Path, sequence: MrSequence, notices: list[str]) -> Series:
    """Read the NIfTI file that the user named as a sequence; add the notices of its header."""
    guess = sequences.Guess(
        sequence, f"--{sequence.value}, named by the user", 1.0, EvidenceKind.USER
    )
    return _make(path, root, guess, notices)


def _detected(path: Path, root: Path, notices: list[str]) -> Series | None:
    """Read one file of a folder; None, with a notice, if it is damaged and not needed."""
    guess = _guess(path, notices)
    try:
        return _make(path, root, guess, notices)
    except LesionLensError as error:
        if guess.sequence is not None:
            raise
        notices.append(f"{path.name!r} was left out: {error.found}.")
        return None


def _guess(path: Path, notices: list[str]) -> sequences.Guess:
    by_name = sequences.from_name(path.name)
    sidecar = read_sidecar(path, notices)
    by_sidecar = (
        sequences.from_acquisition(sequences.acquisition_of_sidecar(sidecar), witness="sidecar")
        if sidecar
        else sequences.UNKNOWN
    )
    if by_name.sequence is None:
        if by_name.confidence > 0:
            return by_name
        return next(
            (g for g in (by_sidecar, sequences.from_name_loosely(path.name)) if g.sequence),
            by_sidecar if by_sidecar.confidence else by_name,
        )
    if by_sidecar.sequence not in (None, by_name.sequence):
        notices.append(
            f"The JSON sidecar of {path.name!r} says {by_sidecar.sequence.display_name}, its name "
            f"{by_name.sequence.display_name}: the name was followed. "
            f"If that is wrong, {how_to_name(by_sidecar.sequence)}."
        )
        return replace(by_name, confidence=0.6)
    doubt = None if by_sidecar.sequence else _doubt_of_name(path, by_name.sequence)
    if doubt:
        notices.append(doubt)
        return replace(by_name, confidence=0.6)
    return by_name


def _doubt_of_name(path: Path, taken: MrSequence) -> str | None:
    """Return a notice if the words of a file name speak for something else too."""
    other, none = sequences.other_reading(path.name, taken)
    if none:
        return (
            f"The name of {path.name!r} has words of an image that is none of the four: it was "
            f"taken for {taken.display_name}. If that is wrong, take it out of the folder."
        )
    if other is not None:
        return (
            f"The name of {path.name!r} has words of {other.display_name} too: it was taken for "
            f"{taken.display_name}. If that is wrong, {how_to_name(other)}."
        )
    return None


def _stem(path: Path) -> str:
    return path.name[: -len(".nii.gz")] if path.name.lower().endswith(".gz") else path.stem


def read_sidecar(path: Path, notices: list[str]) -> Mapping[str, Any]:
    """Return the JSON sidecar of a NIfTI file; empty if missing or invalid."""
    place = path.with_name(_stem(path) + ".json")
    try:
        found = read_json(place, _MAX_SIDECAR) if place.exists() else {}
    except (OSError, ValueError, ReadError):
        found = {}
        notices.append(f"The JSON sidecar of {path.name!r} could not be read and was ignored.")
    return found if isinstance(found, dict) else {}


def _make(path: Path, root: Path, guess: sequences.Guess, notices: list[str]) -> Series:
    header = read_header(path)
    notices.extend(header.notices)
    return Series(
        sequence=guess.sequence,
        detected_by=guess.evidence,
        confidence=guess.confidence,
        grid=header.grid,
        files=(SourceFile(path, shown_name(path, root)),),
        load=partial(read_voxels, path, header.grid.shape),
        description=writable(path.name),
        witness=guess.witness,
        nifti_codes=header.codes,
    )


def shown_name(path: Path, root: Path) -> str:
    """Return the path relative to the study with forward slashes, or the bare name."""
    try:
        return writable(path.relative_to(root).as_posix())
    except ValueError:
        return writable(path.name)


def patients_of(files: Iterable[Path]) -> list[Patient]:
    """Return the patients stated by sidecars and BIDS names, for files that state any."""
    return [one for one in map(_patient_of, files) if one.known]


def _patient_of(path: Path) -> Patient:
    patient = Patient.of(read_sidecar(path, []))
    subject, _ = bids.entities(path.name)
    return replace(patient, id=f"sub-{subject}", issuer="") if subject else patient


def _one_patient(files: Sequence[Path], options: ReadOptions) -> tuple[str, ...]:
    """Return what the user confirmed about contradicting sidecars or BIDS names."""
    patients = tuple(patients_of(files))
    notice = settle(
        conflict_among(patients, gaps=False),
        "these scans (by their sidecars or BIDS names)",
        confirmed=options.same_patient,
        advice="Open each patient's folder for itself",
        patients=patients,
    )
    return (notice,) if notice else ()
