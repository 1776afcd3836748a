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
from lesionlens.base.files.bounded_read import read_object

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

    for base, inner, names in os.walk(folder, onerror=refuse):
        inner[:] = scans_only(Path(base), inner)
        yield Path(base), sorted(names)


def is_dataset(folder: Path) -> bool:
    """Return whether a folder is a BIDS dataset, by its description or subjects' `anat`."""
    place = folder / DESCRIPTION
    if place.is_file():
        return "BIDSVersion" in read_object(place)
    places = (p for s in _labelled(folder, "sub-") for p in (s, *_labelled(s, "ses-")))
    return any((p / "anat").is_dir() for p in places)


def sessions(dataset: Path) -> tuple[tuple[str, Path], ...]:
    """Return name (`sub-01_ses-2`) and folder of each session, or subject without one."""
    found = []
    for subject in _labelled(dataset, "sub-"):
        visits = _labelled(subject, "ses-")
        found += [(f"{subject.name}_{visit.name}", visit) for visit in visits]
        if not visits:
            found.append((subject.name, subject))
    return tuple(found)


def scans_beside_sessions(dataset: Path) -> tuple[str, ...]:
    """Return the subjects with sessions that also have NIfTI files outside of them."""
    found = []
    for subject in _labelled(dataset, "sub-"):
        visits = _labelled(subject, "ses-")
        files = subject.rglob("*.nii*") if visits else ()
        if any(subject / path.relative_to(subject).parts[0] not in visits for path in files):
            found.append(subject.name)
    return tuple(found)


def root_of(path: Path) -> Path | None:
    """Return the dataset that contains a file or folder, or None."""
    own = path.absolute()
    return next((p for p in (own, *own.parents) if p.is_dir() and is_dataset(p)), None)


def name_of(names: Iterable[str]) -> str | None:
    """Return `sub-01_ses-2` if all file names have the same subject and session, else None.

    Examples
    --------
    >>> name_of(["sub-01_ses-2_T1w.nii.gz", "sub-01_ses-2_FLAIR.nii.gz"]), name_of(["t1.nii"])
    ('sub-01_ses-2', None)
    """
    found = {entities(name) for name in names}
    if len(found) != 1 or not (one := found.pop())[0]:
        return None
    subject, session = one
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


def refuse_equal_names(names: Sequence[str]) -> None:
    """Refuse studies that would get the same name in a dataset.

    Raises
    ------
    UnusableInputError
        Two names have the same letters and digits.
    """
    seen: dict[str, str] = {}
    for name in names:
        first = seen.setdefault(bids_name(name), name)
        if first != name:
            raise UnusableInputError(
                found=f"{first!r} and {name!r}, which are one subject in BIDS",
                expected="names that differ in letters and figures",
                next_step="Rename one of the folders",
            )


def scans_only(folder: Path, inner: Iterable[str]) -> list[str]:
    """Return the sub-folders to search for scans, sorted; no hidden ones, no BIDS results."""
    found = sorted(name for name in inner if not name.startswith("."))
    if IGNORED_FOLDERS.intersection(found) and is_dataset(folder):
        return [name for name in found if name not in IGNORED_FOLDERS]
    return found


def _labelled(folder: Path, prefix: str) -> list[Path]:
    try:
        return sorted(p for p in folder.iterdir() if p.name.startswith(prefix) and p.is_dir())
    except OSError:
        return []
