"""BIDS names: which folders are studies, and which are ignored.

BIDS 1.11 (https://bids-specification.readthedocs.io): `sub-<label>[/ses-<label>]/anat/…`;
`derivatives` holds results, `sourcedata` unconverted data; neither holds scans of the dataset.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from lesionlens.base.errors import UnusableInputError, unreadable
from lesionlens.base.files import read_object

DESCRIPTION = "dataset_description.json"
IGNORED_FOLDERS = frozenset({"derivatives", "sourcedata", "code", "stimuli", "phenotype"})
"""Folders directly below a dataset that hold no scans."""
RESULTS = "lesionlens"
"""LesionLens results below `derivatives`: whole results by name, and tables of a batch."""
_NAME = re.compile(r"sub-[A-Za-z0-9]+(_ses-[A-Za-z0-9]+)?")


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


def walk_folders(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield each folder that may hold scans, and its sorted names; links are not followed.

    Raises
    ------
    ReadError
        A folder is not readable: its content would be missing silently.
    """

    def refuse(error: OSError) -> None:
        raise unreadable(error, Path(error.filename).name) from error

    for base, subfolders, names in os.walk(folder, onerror=refuse):
        subfolders[:] = scans_only(Path(base), subfolders)
        yield Path(base), sorted(names)


def is_dataset(folder: Path) -> bool:
    """Return whether a folder is a BIDS dataset, by its description or subjects' `anat`."""
    description = folder / DESCRIPTION
    if description.is_file():
        return "BIDSVersion" in read_object(description)
    folders = (p for s in _labelled(folder, "sub-") for p in (s, *_labelled(s, "ses-")))
    return any((p / "anat").is_dir() for p in folders)


def sessions(dataset: Path) -> tuple[tuple[str, Path], ...]:
    """Return name (`sub-01_ses-2`) and folder of each session, or subject without one."""
    result = []
    for subject in _labelled(dataset, "sub-"):
        visits = _labelled(subject, "ses-")
        result += [(f"{subject.name}_{visit.name}", visit) for visit in visits]
        if not visits:
            result.append((subject.name, subject))
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


def root_of(path: Path) -> Path | None:
    """Return the dataset that contains a file or folder, or None."""
    absolute = path.absolute()
    return next((p for p in (absolute, *absolute.parents) if p.is_dir() and is_dataset(p)), None)


def name_of(names: Iterable[str]) -> str | None:
    """Return `sub-01_ses-2` if all file names have the same subject and session, else None.

    Examples
    --------
    >>> name_of(["sub-01_ses-2_T1w.nii.gz", "sub-01_ses-2_FLAIR.nii.gz"]), name_of(["t1.nii"])
    ('sub-01_ses-2', None)
    """
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
    if _NAME.fullmatch(name):
        return name
    return "sub-" + (re.sub(r"[^A-Za-z0-9]", "", name) or "unnamed")


def refuse_equal_subjects(names: Sequence[str]) -> None:
    """Refuse studies that would get the same name in a dataset.

    Raises
    ------
    UnusableInputError
        Two names have the same letters and digits.
    """
    name_by_subject: dict[str, str] = {}
    for name in names:
        earlier = name_by_subject.setdefault(bids_name(name), name)
        if earlier != name:
            raise UnusableInputError(
                found=f"{earlier!r} and {name!r}, which are one subject in BIDS",
                expected="names that differ in letters or digits",
                next_step="Rename one of the folders",
            )


def scans_only(folder: Path, subfolders: Iterable[str]) -> list[str]:
    """Return the sub-folders to search for scans, sorted; no hidden ones, no BIDS results."""
    names = sorted(name for name in subfolders if not name.startswith("."))
    if IGNORED_FOLDERS.intersection(names) and is_dataset(folder):
        return [name for name in names if name not in IGNORED_FOLDERS]
    return names


def _labelled(folder: Path, prefix: str) -> list[Path]:
    try:
        return sorted(p for p in folder.iterdir() if p.name.startswith(prefix) and p.is_dir())
    except OSError:
        return []
