"""Find cases with reference segmentations: BraTS, Medical Segmentation Decathlon, nnU-Net, others.

A case is a folder with images named by their sequence and, if there is a reference, a segmentation
(`seg` or `label` in its name). A folder with `dataset.json` is a Decathlon or nnU-Net set;
one with segmentations only, each named as its case, is a set of references without images.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar
from unicodedata import normalize

from numpy.typing import NDArray

from lesionlens.analysis.evaluation.dataset_labels import convention_of
from lesionlens.base.arguments import check_folder
from lesionlens.base.errors import ConfigError, ReadError, UnusableInputError, unreadable
from lesionlens.base.files import (
    NIFTI_SUFFIXES,
    is_nifti_name,
    is_volume_name,
    read_json,
    read_rows,
    without_volume_suffix,
)
from lesionlens.base.labels import REFERENCE_ORDER, MrSequence
from lesionlens.base.provenance import sha256_of
from lesionlens.base.text import abbreviated_list
from lesionlens.imaging.reading.nifti import VolumeFile, open_volume
from lesionlens.imaging.reading.sequences import (
    from_partial_name,
    is_label_name,
    sequence_in_words,
    words_of,
)

PATIENTS_NAME = "patients.tsv"
_Value = TypeVar("_Value")
_SEGMENTATION_WORDS = frozenset({"seg", "segm", "segmentation", "label", "labels", "dseg"})
_AFTER_CASE_NAME = re.compile(
    rf"(^|[-_.])({'|'.join(sorted(_SEGMENTATION_WORDS))})$", re.IGNORECASE
)
_PATIENT_PATTERNS = (
    re.compile(r"^(BraTS-[A-Za-z]+-\d+)-\d+$"),
    re.compile(r"^(Brats1[5-8]_.+_[^_]+)_\d$"),
    re.compile(r"^(sub-[A-Za-z0-9]+)"),
)
_BEFORE_2023 = re.compile(r"^brats(20)?(1[7-9]|2[01])_", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image, or one channel of a four-dimensional file."""

    path: Path
    channel: int | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One examination."""

    name: str
    """Unique within its collection."""
    patient: str
    """Patient; all examinations of one patient are on the same side of a split."""
    files: Mapping[MrSequence, tuple[ImageFile, ...]]
    """The images of each sequence, at least one: several if they differ in name or content. Empty
    if there is only a reference."""
    reference_path: Path | None
    """Reference segmentation."""
    convention: str | None = None
    """Label convention, if the collection or the case's name states it."""
    unread: tuple[str, ...] = ()
    """Without a reference: names of files that are neither images nor named as a segmentation."""

    @property
    def images(self) -> dict[MrSequence, ImageFile]:
        """The first image of each sequence."""
        return {sequence: files[0] for sequence, files in self.files.items()}

    @property
    def alternatives(self) -> dict[MrSequence, tuple[ImageFile, ...]]:
        """All images of the sequences that have several."""
        return {sequence: files for sequence, files in self.files.items() if len(files) > 1}

    @property
    def reference_sequence(self) -> MrSequence | None:
        """The first available of T1c, FLAIR, T2, T1."""
        return next((s for s in REFERENCE_ORDER if s in self.files), None)

    def analysed(self, sequence: MrSequence, inputs: Container[str]) -> ImageFile:
        """Return the image of a sequence; of several, one whose SHA-256 is among `inputs`."""
        several = self.alternatives.get(sequence, ())
        return next((f for f in several if sha256_of(f.path) in inputs), self.files[sequence][0])


def patient_of(case: str) -> str:
    """Return the patient of an examination, if the collection's names contain it.

    Examples
    --------
    >>> patient_of("BraTS-GLI-00005-101"), patient_of("BraTS20_Training_001")
    ('BraTS-GLI-00005', 'BraTS20_Training_001')
    """
    return _patient_in_name(case) or case


def _patient_in_name(name: str) -> str | None:
    return next((match[1] for pattern in _PATIENT_PATTERNS if (match := pattern.match(name))), None)


def convention_in_name(name: str) -> str | None:
    """Return the label convention that the name of a case, or of its file, states.

    Examples
    --------
    >>> convention_in_name("BraTS2021_00495_seg.nii.gz"), convention_in_name("Patient 7")
    ('brats', None)
    """
    return "brats" if _BEFORE_2023.match(name) else None


def find_cases(root: Path) -> tuple[Case, ...]:
    """Find every case below a folder, sorted by name.

    Raises
    ------
    ConfigError
        There is no such folder, there are no cases, one has several references, or dataset.json is
        invalid or states labels of no known convention.
    ReadError
        A folder cannot be read.
    """
    check_folder(root, "a folder of cases with their references")
    if (root / "dataset.json").is_file():
        cases = _cases_of_dataset(root)
    else:
        folders = [root, *_visible_folders(root)]
        cases = [c for folder in folders if (c := _case_in_folder(folder)) is not None]
        if all(_folder_of(c) == root for c in cases):
            segmentations = {} if _is_result(root) else segmentations_in(root)
            cases = [Case(n, patient_of(n), {}, file) for n, file in segmentations.items()] or cases
        else:
            for case in (c for c in cases if not c.files):
                files = _named_segmentations(_folder_of(case))
                _check_single_segmentation(f"in the case {case.name!r}", files)
    if not cases:
        raise ConfigError(
            found=f"no case in {root.name!r}"
            + (", which holds results" if any(map(_is_result, (root, *root.glob("*")))) else ""),
            expected="folders with images named t1, t1c, t2, flair and seg (BraTS), a "
            "Decathlon or nnU-Net set with dataset.json, or segmentations named after their cases",
            next_step="Name the folder that holds one folder, or one segmentation, per case",
        )
    cases = _with_unique_names(root, cases)
    patients = by_case(patients_table(root), [c.name for c in cases])
    return tuple(
        replace(
            c,
            patient=patients.get(c.name) or _patient_in_path(root, c),
            convention=c.convention or convention_in_name(c.name.rpartition("/")[2]),
        )
        for c in cases
    )


def _visible_folders(root: Path) -> list[Path]:
    """Return the folders below a folder, sorted, without hidden ones and their subfolders."""
    folders = sorted(path for path in root.rglob("*") if path.is_dir())
    parts = {folder: folder.relative_to(root).parts for folder in folders}
    return [f for f in folders if not any(part.startswith(".") for part in parts[f])]


def _nifti_files(folder: Path) -> list[Path]:
    """Return the volumes in a folder: NIfTI files, and others that are no copy of one.

    Without hidden ones (`._t1.nii.gz` of macOS).
    """
    try:
        files = sorted(p for p in folder.iterdir() if is_volume_name(p.name))
    except OSError as error:
        raise unreadable(error, folder.name) from error
    stems = {p: without_volume_suffix(p.name).removesuffix(".seg") for p in files}
    nifti = {stem for p, stem in stems.items() if is_nifti_name(p.name)}
    kept = (p for p in files if is_nifti_name(p.name) or stems[p] not in nifti)
    return [p for p in kept if not p.name.startswith(".")]


def _case_in_folder(folder: Path) -> Case | None:
    by_word: dict[MrSequence, list[ImageFile]] = {}
    by_part: dict[MrSequence, list[ImageFile]] = {}
    segmentations: list[Path] = []
    unread: list[str] = []
    for path in _nifti_files(folder):
        words = words_of(path.name)
        if _SEGMENTATION_WORDS & set(words):
            segmentations.append(path)
            continue
        sequence = None if is_label_name(path.name) else sequence_in_words(words)
        if sequence is not None:
            by_word.setdefault(sequence, []).append(ImageFile(path))
        elif (part := from_partial_name(path.name).sequence) is not None:
            by_part.setdefault(part, []).append(ImageFile(path))
        else:
            unread.append(path.name)
    images = {sequence: _distinct(files) for sequence, files in (by_part | by_word).items()}
    if not images and (not segmentations or _is_result(folder)):
        return None
    if images:
        _check_single_segmentation(f"in the case {folder.name!r}", segmentations)
    reference = next(iter(segmentations), None)
    case = Case(folder.name, patient_of(folder.name), images, reference)
    return case if segmentations else replace(case, unread=tuple(unread))


def _is_result(folder: Path) -> bool:
    return (folder / "findings.json").is_file()


def _distinct(files: Sequence[ImageFile]) -> tuple[ImageFile, ...]:
    """Return the images of a sequence: the first alone if the others are copies of it."""
    several_channels = len({file.channel for file in files}) > 1
    is_several = several_channels or _are_distinct([file.path for file in files])
    return tuple(files if is_several else files[:1])


def _are_distinct(files: Sequence[Path]) -> bool:
    """Return whether files differ other than by compression, in name or content."""
    if len({without_volume_suffix(path.name) for path in files}) > 1:
        return True
    return len(files) > 1 and len({_unpacked_sha256(path) for path in files}) > 1


def _unpacked_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content before compression; its name if it is damaged."""
    try:
        with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except (OSError, EOFError, zlib.error):
        return path.name


def _check_single_segmentation(context: str, files: Sequence[Path]) -> None:
    """Refuse several segmentations of one case."""
    if _are_distinct(files):
        raise ConfigError(
            f"{len(files)} segmentations {context}: "
            f"{abbreviated_list([path.name for path in files], 6)}.",
            hint="Move all but one of each case out of the folder.",
        )


def segmentations_in(folder: Path) -> dict[str, Path]:
    """Return the segmentations in a folder, by the case that each is named after.

    A trailing `seg` (or `label`, `dseg` …) is not part of the case name. Empty if a file is named
    after a sequence: then they are the images of one case.

    Raises
    ------
    ConfigError
        Two files are named after the same case.
    """
    files = _nifti_files(folder)
    if any(sequence_in_words(words_of(p.name)) and not is_label_name(p.name) for p in files):
        return {}
    return _by_case(folder, files, lambda n: _AFTER_CASE_NAME.sub("", without_volume_suffix(n)))


def _by_case(
    folder: Path, files: Iterable[Path], name_of: Callable[[str], str] = without_volume_suffix
) -> dict[str, Path]:
    """Return segmentations by the case that each is named after; refuse two of one case."""
    files_by_case: dict[str, list[Path]] = {}
    for path in files:
        files_by_case.setdefault(name_of(path.name), []).append(path)
    files_by_case.pop("", None)
    for name, paths in files_by_case.items():
        _check_single_segmentation(f"named after the case {name!r} in {folder.name!r}", paths)
    return {name: paths[-1] for name, paths in files_by_case.items()}


def _named_segmentations(folder: Path) -> list[Path]:
    return [p for p in _nifti_files(folder) if _SEGMENTATION_WORDS & set(words_of(p.name))]


def segmentation_of(folder: Path) -> Path | None:
    """Return the segmentation in a case's folder: the one named so, else the only file."""
    candidates = _named_segmentations(folder), _nifti_files(folder)
    return next((files[0] for files in candidates if len(files) == 1), None)


def _cases_of_dataset(root: Path) -> list[Case]:
    try:
        description: Any = read_json(root / "dataset.json")
        name_by_channel = description.get("channel_names") or description["modality"]
        numbers = sorted(name_by_channel, key=int)
        channels = [name_by_channel[number] for number in numbers]
        labels = description["labels"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ReadError) as error:
        raise _dataset_error(root, "lacks modality (or channel_names) and labels") from error
    if [int(number) for number in numbers] != list(range(len(numbers))):  # files are named by them
        raise _dataset_error(root, f"numbers its channels {', '.join(numbers)}, not 0, 1 …")
    sequences = {
        n: s for n, name in enumerate(channels) if (s := sequence_in_words(words_of(str(name))))
    }
    if not sequences:
        raise _dataset_error(root, f"has the channels {channels}")
    convention = convention_of(labels)
    cases = []
    folder = root / "labelsTr"
    paths = _nifti_files(folder) if folder.is_dir() else []
    for name, path in _by_case(root / "labelsTr", paths).items():
        found = _dataset_images(root / "imagesTr", name, sequences)
        images = {sequence: _distinct(files) for sequence, files in found.items()}
        cases.append(Case(name, patient_of(name), images, path, convention))
    return cases


def _dataset_error(root: Path, defect: str) -> ConfigError:
    return ConfigError(
        f"The dataset.json in {root.name!r} {defect}.",
        hint="Correct it, or lay the cases out as one folder each.",
    )


def _dataset_images(
    folder: Path, name: str, sequences: Mapping[int, MrSequence]
) -> dict[MrSequence, list[ImageFile]]:
    """Return the images of each sequence: several, if two channels or files are of one."""
    images: dict[MrSequence, list[ImageFile]] = {}
    for channel, sequence in sequences.items():
        for suffix in NIFTI_SUFFIXES:
            combined_file = folder / f"{name}{suffix}"
            channel_file = folder / f"{name}_{channel:04d}{suffix}"
            if channel_file.is_file():
                images.setdefault(sequence, []).append(ImageFile(channel_file))
            elif combined_file.is_file():
                images.setdefault(sequence, []).append(ImageFile(combined_file, channel))
    return images


def _folder_of(case: Case) -> Path:
    return (case.reference_path or next(iter(case.images.values())).path).parent


def _with_unique_names(root: Path, cases: list[Case]) -> list[Case]:
    """Name cases by their path if two folders have the same name."""
    repeated_names = {name for name, count in Counter(c.name for c in cases).items() if count > 1}
    return [
        replace(c, name=_folder_of(c).relative_to(root).as_posix())
        if c.name in repeated_names
        else c
        for c in cases
    ]


def patients_table(root: Path) -> dict[str, str]:
    """Read the user's table of patients by case; empty if there is none.

    Raises
    ------
    ConfigError
        The columns case and patient are missing, or a case has two patients.
    """
    table = root / PATIENTS_NAME
    if not table.is_file():
        return {}
    rows = read_table(table, "patient", "Correct or remove it")
    return {case: patient for case, patient in rows.items() if patient}


def read_table(path: Path, column: str, next_step: str) -> dict[str, str]:
    """Read a tab-separated table; return the values of `column` by case.

    Raises
    ------
    ConfigError
        This column or case is missing, a row is too short, or two rows of a case differ.
    """
    values: dict[str, str] = {}
    try:
        for row in read_cases(path, next_step):
            value = row[column].strip()
            if values.setdefault(row["case"], value) != value:
                raise ConfigError(
                    f"{path.name} has two rows for the case {row['case']!r}, which differ.",
                    hint=next_step,
                )
    except (KeyError, AttributeError) as error:
        raise ConfigError(
            f"{path.name} lacks the columns case and {column}, separated by a tab.",
            hint=next_step,
        ) from error
    return values


def by_case(rows: Mapping[str, _Value], cases: Iterable[str]) -> dict[str, _Value]:
    """Return the rows of a table under the names of cases; others keep their names.

    Names are compared with accents composed: those of files copied from macOS are decomposed.
    """
    names = {normalize("NFC", case): case for case in cases}
    matched = {names.get(normalize("NFC", row), row): value for row, value in rows.items()}
    return matched | {name: rows[name] for name in names.values() if name in rows}


def check_rows(table: str, rows: Iterable[str], cases: Iterable[str]) -> None:
    """Refuse a table with a misspelt case: some row has no case, and some case has no row.

    Raises
    ------
    ConfigError
        There are both.
    """
    row_names, case_names = ({normalize("NFC", name) for name in names} for names in (rows, cases))
    extra, missing = row_names - case_names, case_names - row_names
    if extra and missing:
        raise ConfigError(
            f"{table} has a row for {min(extra)!r}, which is no case here, and none for "
            f"{min(missing)!r}.",
            hint="Correct the name in the table, or remove the row.",
        )


def read_cases(path: Path, next_step: str) -> list[dict[str, str]]:
    """Read a tab-separated table.

    Raises
    ------
    ConfigError
        Not such a table.
    """
    try:
        return read_rows(path, "\t")
    except ValueError as error:
        raise ConfigError(
            f"{path.name} cannot be read as a table: {error}.",
            hint=next_step,
        ) from error


def _patient_in_path(root: Path, case: Case) -> str:
    """Return the patient that a folder of the case names, as in `sub-01/ses-2/anat`."""
    parts = (*_folder_of(case).relative_to(root).parts, case.name)
    return next((patient for part in parts if (patient := _patient_in_name(part))), case.name)


def read_volume(image: ImageFile | Path) -> tuple[NDArray[Any], VolumeFile]:
    """Read a file, or one channel of it, as an analysis reads it.

    Returns
    -------
    voxels : (I, J, K)
        Scanner units; in the stored type if the file has no scale.
    header : VolumeFile
        Its grid, and notices about it.

    Raises
    ------
    UnusableInputError
        The file is unreadable, not three-dimensional, or its geometry is ambiguous.
    """
    image_file = ImageFile(image) if isinstance(image, Path) else image
    path = image_file.path
    try:
        volume = open_volume(path, image_file.channel)
        return volume.stored(), volume
    except UnusableInputError as error:
        full_name = repr(f"{path.parent.name}/{path.name}")
        sentence = error.sentence.replace(repr(path.name), full_name)
        raise ReadError(sentence, hint=error.next_step) from error
