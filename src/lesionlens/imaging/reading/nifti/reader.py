"""NIfTI reader: a folder, a BIDS session or one file; with BIDS and dcm2niix sidecars."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from lesionlens.base.errors import LesionLensError, ReadError, UnusableInputError
from lesionlens.base.files import is_nifti_name, read_json, without_nifti_suffix
from lesionlens.base.labels import MrSequence, naming_advice
from lesionlens.base.records.patient import Patient, conflict_among, settle
from lesionlens.base.records.study import Series, SourceFile, Study, StudyKind
from lesionlens.base.text import encodable
from lesionlens.imaging.reading import bids, sequences
from lesionlens.imaging.reading.nifti import folder, names
from lesionlens.imaging.reading.nifti.folder import is_nifti
from lesionlens.imaging.reading.nifti.header import read_header
from lesionlens.imaging.reading.nifti.voxels import read_opened, state_of
from lesionlens.imaging.reading.readers import ReadOptions
from lesionlens.imaging.reading.series_selection import choose, nothing_recognised, refuse_several

_MAX_SIDECAR_BYTES = 4 * 2**20
"""Maximum bytes of a JSON sidecar; a larger one is ignored."""
_OTHER_FORMATS = frozenset({".img", ".mha", ".mhd", ".mgz", ".mgh", ".nrrd", ".nhdr", ".mnc"})


class NiftiReader:
    """Reads a folder of NIfTI files, a BIDS session or one NIfTI file."""

    def claims(self, path: Path) -> float:
        """Return 1 for a NIfTI file, 0.9 for a folder with one at any depth."""
        if path.is_file():
            return 1.0 if is_nifti(path) else 0.0
        return 0.9 if next(folder.walk(path), None) else 0.0

    def read(self, path: Path, named: Mapping[MrSequence, str], options: ReadOptions) -> Study:
        """Read the headers; see `readers.open_study`."""
        root = path if path.is_dir() else path.parent
        files = all_files = options.files(path, folder.walk)
        if not all(item.is_file() for item in options.selected_paths or (path,)):
            files = folder.select_study(files, root, options.study_uid)
        notices: list[str] = []
        named_paths = {seq: _resolve(value, root, seq) for seq, value in named.items()}
        _refuse_repeated_files(named_paths)
        named_series = {
            seq: series_of_file(p, root, seq, notices) for seq, p in named_paths.items()
        }
        resolved_paths = {p.resolve() for p in named_paths.values()}
        other_files = [file for file in files if file.resolve() not in resolved_paths]
        detected = _read_all_detected(other_files, root, options, notices)
        chosen, set_aside, choice_notices = choose(detected, named_series)
        if path.is_dir() and not options.selected_paths:
            notices += _unread_file_notices({file.parent for file in files}, chosen)
            notices += _deeper_file_notices(all_files, files, root, chosen)
        chosen_files = [series.files[0].path for series in chosen.values()]
        confirmed = _confirm_one_patient(chosen_files, options)
        doubt = names.mixed_study_notice(path.name for path in chosen_files)
        study = Study(
            name=bids.name_of(file.name for file in chosen_files)
            or encodable(path.name or path.resolve().name),
            kind=StudyKind.NIFTI,
            series=chosen,
            root=path,
            set_aside=set_aside,
            patient=next(iter(patients_of(chosen_files)), Patient()),
            notices=(
                *([doubt] if doubt else []),
                *confirmed,
                *choice_notices,
                *notices,
            ),
            selected=options.study_uid,
        )
        if not chosen:
            raise nothing_recognised(study)
        refuse_several(detected, named_series, study)
        return study


def _unread_file_notices(folders: Iterable[Path], chosen: Collection[MrSequence]) -> list[str]:
    """Return a notice for each file of an absent sequence that is in another format or missing.

    A missing file is a link to a file that was not fetched, as in DataLad datasets.
    """
    notices = []
    for path in (path for directory in sorted(folders) for path in sorted(directory.iterdir())):
        in_other_format = path.suffix.lower() in _OTHER_FORMATS
        is_missing = is_nifti_name(path.name) and not path.exists()
        if path.name.startswith(".") or not (in_other_format or is_missing):
            continue
        sequence = sequences.from_name(path.name).sequence
        if sequence is None or sequence in chosen:
            continue
        notices.append(
            f"{encodable(path.name)!r} was not read, because only NIfTI (.nii, .nii.gz) is "
            f"supported: convert it to use it as {sequence.display_name}."
            if in_other_format
            else f"{encodable(path.name)!r} was not read, because it is a link to a file that does "
            f"not exist: fetch that file to use it as {sequence.display_name}."
        )
    return notices


def _deeper_file_notices(
    all_files: Iterable[Path], files: Sequence[Path], root: Path, chosen: Collection[MrSequence]
) -> list[str]:
    """Return a notice for each absent sequence that has a file in a folder below the study's."""
    if any(file.parent != root for file in files):
        return []
    first_paths: dict[MrSequence, Path] = {}
    for path in all_files:
        sequence = sequences.from_name(path.name).sequence
        if path.parent != root and sequence is not None and sequence not in chosen:
            first_paths.setdefault(sequence, path)
    return [
        f"{relative_name(path, root)!r} was not read, because the folder itself contains images: "
        f"if it belongs to this study, {naming_advice(sequence)}."
        for sequence, path in first_paths.items()
    ]


def named_path(value: str, root: Path, sequence: MrSequence) -> Path | None:
    """Return the file or folder that the user named, by its path or its path within the study.

    Raises
    ------
    UnusableInputError
        There are both, and they are not the same: one may be another patient's.
    """
    candidates = {
        path.resolve(): path for path in (Path(value).absolute(), root / value) if path.exists()
    }
    if len(candidates) > 1:
        raise UnusableInputError(
            found=f"{value!r} for --{sequence.value} both in the study and in the working folder",
            expected="one of them",
            next_step="Name it by its full path",
        )
    return next(iter(candidates.values()), None)


def _resolve(value: str, root: Path, sequence: MrSequence) -> Path:
    path = named_path(value, root, sequence)
    if path is not None and path.is_file():
        return path
    if path is not None and path.is_dir():
        raise UnusableInputError(
            found=f"a folder for --{sequence.value}: {path.name!r}",
            expected="a NIfTI file, as the study has",
            next_step="Analyse the DICOM folder and name the NIfTI files of the other "
            "sequences, as with --flair FILE; or convert the series to NIfTI",
            in_window="Open the DICOM folder, then name the NIfTI files of the other "
            "sequences; or convert the series to NIfTI",
        )
    raise UnusableInputError(
        found=f"no such file for --{sequence.value}: {Path(value).name!r}",
        expected="a NIfTI file, named by its path, or by its path within the study",
        next_step="Check the spelling; each sequence has its own flag",
        in_window="Check that the file is still there",
    )


def _refuse_repeated_files(named_paths: Mapping[MrSequence, Path]) -> None:
    sequence_by_path: dict[Path, MrSequence] = {}
    for sequence, path in named_paths.items():
        earlier = sequence_by_path.setdefault(path.resolve(), sequence)
        if earlier is not sequence:
            raise UnusableInputError(
                found=f"the same file for --{earlier.value} and --{sequence.value}: {path.name!r}",
                expected="another file for each sequence",
                next_step="Leave out the flag that does not fit",
                in_window="Choose other series under “change…”",
            )


def series_of_file(path: Path, root: Path, sequence: MrSequence, notices: list[str]) -> Series:
    """Read the NIfTI file that the user named as a sequence; add the notices of its header."""
    guess = sequences.Guess(sequence, f"--{sequence.value}, named by the user", 1.0)
    return _make_series(path, root, guess, notices)


def _read_all_detected(
    files: Sequence[Path], root: Path, options: ReadOptions, notices: list[str]
) -> list[Series]:
    """Read the files whose sequence is to be recognised; add notices to `notices`."""
    detected = []
    for number, file in enumerate(files):
        options.context.check("opening the study")
        options.context.progress("open", number / len(files))
        series = _read_detected(file, root, notices)
        if series is not None:
            detected.append(series)
    return detected


def _read_detected(path: Path, root: Path, notices: list[str]) -> Series | None:
    """Read one file of a folder; None, with a notice, if it is damaged and not needed."""
    guess = _guess(path, notices)
    try:
        return _make_series(path, root, guess, notices)
    except LesionLensError as error:
        if guess.sequence is not None:
            raise
        notices.append(f"{path.name!r} was left out: {error.found}.")
        return None


def _guess(path: Path, notices: list[str]) -> sequences.Guess:
    by_name = sequences.from_name(path.name)
    sidecar = read_sidecar(path, notices)
    parameters = sequences.acquisition_of_sidecar(sidecar)
    by_sidecar = (
        sequences.from_acquisition(parameters, source="sidecar") if sidecar else sequences.UNKNOWN
    )
    if by_name.sequence is None:
        if by_name.confidence > 0:
            return by_name
        by_parts = sequences.from_partial_name(path.name)
        return next(
            (g for g in (by_sidecar, by_parts) if g.sequence),
            by_sidecar if by_sidecar.confidence else by_parts,
        )
    other = by_sidecar.sequence
    if other is None and by_name.sequence is MrSequence.T1 and sequences.agent_recorded(parameters):
        other = MrSequence.T1C
    if other is not None and other is not by_name.sequence:
        notices.append(
            f"The JSON sidecar of {path.name!r} says {other.display_name}, its name "
            f"{by_name.sequence.display_name}: the name was used. If that is wrong, "
            f"{naming_advice(other)}."
        )
        return replace(by_name, confidence=0.6)
    doubt = None if by_sidecar.sequence else _name_doubt(path, by_name.sequence)
    if doubt:
        notices.append(doubt)
        return replace(by_name, confidence=0.6)
    return by_name


def _name_doubt(path: Path, assigned: MrSequence) -> str | None:
    """Return a notice if words of a file name also indicate something else."""
    other, is_other_kind = sequences.alternative_reading(path.name, assigned)
    if is_other_kind:
        return (
            f"The name of {path.name!r} suggests an image other than T1, T1c, T2 and FLAIR: it "
            f"was read as {assigned.display_name}. If that is wrong, remove it from the folder."
        )
    if other is not None:
        return (
            f"The name of {path.name!r} also contains words for {other.display_name}: it was "
            f"read as {assigned.display_name}. If that is wrong, {naming_advice(other)}."
        )
    return None


def read_sidecar(path: Path, notices: list[str]) -> Mapping[str, Any]:
    """Return the JSON sidecar of a NIfTI file; empty if missing or invalid."""
    sidecar_path = path.with_name(f"{without_nifti_suffix(path.name)}.json")
    try:
        content = read_json(sidecar_path, _MAX_SIDECAR_BYTES) if sidecar_path.exists() else {}
    except (OSError, ValueError, ReadError):
        content = {}
        notices.append(f"The JSON sidecar of {path.name!r} could not be read and was ignored.")
    return content if isinstance(content, dict) else {}


def _make_series(path: Path, root: Path, guess: sequences.Guess, notices: list[str]) -> Series:
    opened = state_of(path)
    header = read_header(path)
    notices.extend(header.notices)
    return Series(
        sequence=guess.sequence,
        detected_by=guess.evidence,
        confidence=guess.confidence,
        grid=header.grid,
        files=(SourceFile(path, relative_name(path, root)),),
        load=partial(read_opened, path, header.grid.shape, opened),
        description=encodable(path.name),
        nifti_codes=header.codes,
    )


def relative_name(path: Path, root: Path) -> str:
    """Return the path relative to the study with forward slashes, or the bare name."""
    try:
        return encodable(path.relative_to(root).as_posix())
    except ValueError:
        return encodable(path.name)


def patients_of(files: Iterable[Path]) -> list[Patient]:
    """Return the patients stated by sidecars and BIDS names, for files that state any."""
    return [patient for patient in map(_patient_of, files) if patient.known]


def _patient_of(path: Path) -> Patient:
    patient = Patient.of(read_sidecar(path, []))
    subject, _ = bids.entities(path.name)
    return replace(patient, id=f"sub-{subject}", issuer="") if subject else patient


def _confirm_one_patient(files: Sequence[Path], options: ReadOptions) -> tuple[str, ...]:
    """Return what the user confirmed about contradicting sidecars or BIDS names."""
    patients = tuple(patients_of(files))
    notice = settle(
        conflict_among(patients, gaps=False),
        "these scans (by their sidecars or BIDS names)",
        confirmed=options.same_patient,
        advice="Open each patient's folder separately",
        patients=patients,
    )
    return (notice,) if notice else ()
