"""What names of folders and files say about dataset, subject, session and examination.

BIDS 1.11 (https://bids-specification.readthedocs.io): `sub-<label>[/ses-<label>]/anat/…`;
`derivatives` holds results, `sourcedata` unconverted data; neither holds scans of the dataset.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from lesionlens.base.errors import UnusableInputError, unreadable
from lesionlens.base.files import read_object
from lesionlens.imaging.reading.sequences import words_of

DESCRIPTION = "dataset_description.json"
RESULTS = "lesionlens"
"""LesionLens results below `derivatives`: whole results by name, and tables of a batch."""
_NO_SCANS = frozenset({"derivatives", "sourcedata", "code", "stimuli", "phenotype"})
_NAME = re.compile(r"sub-[A-Za-z0-9]+(_ses-[A-Za-z0-9]+)?")
_MAX_NAME_BYTES = 160
"""Of a study, so that 255 bytes suffice for every file that is named after it."""
_SERIES = frozenset({"", "s", "se", "ser", "series", "scan", "im", "img", "run", "echo", "rep"})
"""What precedes a number of a series, not of a patient."""


def entities(name: str) -> tuple[str, str]:
    """Return the subject and session of a BIDS name, empty if it has none.

    Examples
    --------
    >>> entities("sub-01_ses-2_T1w.nii.gz")
    ('01', '2')
    """
    subject = re.match(r"sub-([A-Za-z0-9]+)_", name)
    session = re.search(r"_ses-([A-Za-z0-9]+)_", name)
    return (subject[1] if subject else "", session[1] if session else "")


def name_of(names: Iterable[str]) -> str | None:
    """Return `sub-01_ses-2` if all file names have the same subject and session, else None."""
    labels = {entities(name) for name in names}
    if len(labels) != 1 or not (label := labels.pop())[0]:
        return None
    subject, session = label
    return f"sub-{subject}" + (f"_ses-{session}" if session else "")


def bids_name(name: str) -> str:
    """Return a valid BIDS name: unchanged, or a subject label of its letters and digits.

    Examples
    --------
    >>> bids_name("sub-01_ses-2"), bids_name("study_dicom")
    ('sub-01_ses-2', 'sub-studydicom')
    """
    name = short_name(name)
    if _NAME.fullmatch(name):
        return name
    return "sub-" + (re.sub(r"[^A-Za-z0-9]", "", name) or "unnamed")


def short_name(name: str) -> str:
    """Return a name after which files and folders can be named: a long one ends in a digest.

    Examples
    --------
    >>> short_name("case 7"), len(short_name("p" * 246))
    ('case 7', 160)
    """
    content = name.encode()
    if len(content) <= _MAX_NAME_BYTES:
        return name
    kept = content[: _MAX_NAME_BYTES - 9].decode(errors="ignore")
    return f"{kept}-{hashlib.sha256(content).hexdigest()[:8]}"


def refuse_equal_subjects(names: Sequence[str]) -> None:
    """Refuse studies that would get the same name in a dataset."""
    earlier: dict[str, str] = {}
    for name in names:
        if earlier.setdefault(bids_name(name), name) != name:
            raise UnusableInputError(
                f"{earlier[bids_name(name)]!r} and {name!r} are one subject in BIDS.",
                hint="Rename one of the folders so that they differ in letters or digits",
            )


def walk_folders(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield each folder that may hold scans, and its sorted names; links are not followed.

    Hidden folders and the results of a BIDS dataset are left out; a folder that is not readable is
    refused, as its content would be missing silently.
    """

    def refuse(error: OSError) -> None:
        raise unreadable(error, Path(error.filename).name) from error

    for base, subfolders, names in os.walk(folder, onerror=refuse):
        visible = sorted(name for name in subfolders if not name.startswith("."))
        ignored = _NO_SCANS if _NO_SCANS.intersection(visible) and is_dataset(Path(base)) else ()
        subfolders[:] = [name for name in visible if name not in ignored]
        yield Path(base), sorted(names)


def is_dataset(folder: Path) -> bool:
    """Return whether a folder is a BIDS dataset, by its description or subjects' `anat`."""
    description = folder / DESCRIPTION
    if description.is_file():
        return "BIDSVersion" in read_object(description)
    folders = (p for s in _labelled(folder, "sub-") for p in (s, *_labelled(s, "ses-")))
    return any((p / "anat").is_dir() for p in folders)


def root_of(path: Path) -> Path | None:
    """Return the dataset that contains a file or folder, or None."""
    absolute = path.absolute()
    return next((p for p in (absolute, *absolute.parents) if p.is_dir() and is_dataset(p)), None)


def sessions(dataset: Path) -> tuple[tuple[str, Path], ...]:
    """Return name (`sub-01_ses-2`) and folder of each session, or subject without one."""
    result = []
    for subject in _labelled(dataset, "sub-"):
        visits = [(f"{subject.name}_{v.name}", v) for v in _labelled(subject, "ses-")]
        result += visits or [(subject.name, subject)]
    return tuple(result)


def scans_beside_sessions(dataset: Path) -> tuple[str, ...]:
    """Return the subjects with sessions that also have NIfTI files outside of them."""
    subjects = []
    for subject in _labelled(dataset, "sub-"):
        visits = _labelled(subject, "ses-")
        files = subject.rglob("*.nii*") if visits else ()
        if any(subject / path.relative_to(subject).parts[0] not in visits for path in files):
            subjects.append(subject.name)
    return tuple(subjects)


def _labelled(folder: Path, prefix: str) -> list[Path]:
    try:
        return sorted(p for p in folder.iterdir() if p.name.startswith(prefix) and p.is_dir())
    except OSError:
        return []


def mixed_names(names: Sequence[str]) -> str:
    """Return a notice if names of one study differ in BIDS session or in a number; else ""."""
    found, kind = sorted({entities(name)[1] for name in names} - {""}), "sessions"
    for pattern, words in _numbers(names).items():
        is_shared, is_series = max(words.values()) > 1, pattern.strip("#") in _SERIES
        if len(found) < 2 and len(words) > 1 and (is_shared or not is_series):
            found, kind = sorted(words), "numbers"
    if len(found) < 2:
        return ""
    return (
        f"The names of the files have different {kind} ({', '.join(map(repr, found))}): check that "
        "they belong to one examination of one patient."
    )


def is_of_other_study(mask: Path, files: Sequence[Path]) -> bool:
    """Return whether a mask, or its folder, has another number than all files of a study have.

    Examples
    --------
    >>> images = [Path("Case_01/x_01660_t1c.nii.gz"), Path("Case_01/x_01660_t2.nii")]
    >>> masks = "x_01661_seg.nii", "2/x_01660_seg.nii", "Case_02/seg.nii"
    >>> [is_of_other_study(Path(mask), images) for mask in masks]
    [True, False, True]
    """
    for index, own in enumerate(entities(mask.name)):  # subject, session
        labels = {entities(file.name)[index] for file in files} - {""}
        if own and labels and own not in labels:
            return True
    own_words = _numbers([mask.name])
    for pattern, words in _numbers([file.name for file in files]).items():
        is_common = words.total() == len(files) and len(words) == 1
        if is_common and own_words.get(pattern, words).keys() != words.keys():
            return True
    folder, *folders = (re.sub(r"\d", "#", p.absolute().parent.name) for p in (mask, *files))
    same = {file.absolute().parent.name for file in files}
    return "#" in folder and {folder} == {*folders} and mask.absolute().parent.name not in same


def _numbers(names: Iterable[str]) -> dict[str, Counter[str]]:
    """Return how many names have each word with a number of two digits or more, by pattern."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for name in names:
        for word in {word for word in words_of(name) if re.search(r"\d\d", word)}:
            found[re.sub(r"\d", "#", word)][word] += 1
    return found
