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
from lesionlens.imaging.reading.sequences import is_label_name, sequence_in_words, words_of

DESCRIPTION = "dataset_description.json"
RESULTS = "lesionlens"
"""LesionLens results below `derivatives`: whole results by name, and tables of a batch."""
_NO_SCANS = frozenset({"derivatives", "sourcedata", "code", "stimuli", "phenotype"})
_NAME = re.compile(r"sub-[A-Za-z0-9]+(_ses-[A-Za-z0-9]+)?")
_MAX_NAME_BYTES = 160
"""Of a study, so that 255 bytes suffice for every file that is named after it."""
_SCAN_WORDS = re.compile(r"[23]d|\d+mm|\d+t|n4|mni\d*|\d+(x\d+)+|iso\d+")
"""Words with digits that describe a scan or its processing."""
_REPETITION = re.compile(r"(?<![a-z])(run|echo|rep)[-_ ]?\d+")
_SERIES = frozenset({"s#", "se#", "ser#", "series#", "scan#", "im#", "img#"})
"""Patterns of words that number series, not patients."""


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
    """Return a notice if names of one study differ in BIDS session or leading number; else ""."""
    found, kind = sorted({entities(name)[1] for name in names} - {""}), "have different sessions"
    if len(found) < 2:
        kind = "begin with different numbers"
        others = [_numbers(name) for name in names if not entities(name)[0]]
        counts = Counter("-".join(words) for words in others if words)
        patients = any(
            len(words) > 1 and pattern not in _SERIES and re.search("[a-z]", pattern)
            for pattern, words in _by_pattern(others).items()
        )
        found = sorted(counts) if patients or max(counts.values(), default=0) > 1 else []
    if len(found) < 2:
        return ""
    return (
        f"The names of the files {kind} ({', '.join(map(repr, found))}): check that they belong to "
        "one examination of one patient."
    )


def is_of_other_study(mask: Path, files: Sequence[Path]) -> bool:
    """Return whether a mask is named for another subject, session or number than a study's files.

    Or is in a folder that differs from theirs in its digits alone. A number that differs between
    the study's own files is a series number and is ignored.

    Examples
    --------
    >>> images = [Path("Case_01/x_01660_t1c.nii.gz"), Path("Case_01/x_01660_t2.nii")]
    >>> masks = "x_01661_seg.nii", "2/x_01660_seg.nii", "Case_02/seg.nii"
    >>> [is_of_other_study(Path(mask), images) for mask in masks]
    [True, False, True]
    """
    for own, labels in zip(
        entities(mask.name), zip(*(entities(f.name) for f in files), strict=True), strict=True
    ):
        if own and any(labels) and own not in labels:
            return True
    drawn = _by_pattern([_numbers(mask.name)])
    for pattern, words in _by_pattern([_numbers(file.name) for file in files]).items():
        certain = len(words) == 1 and (len(files) > 1 or pattern != "#")
        if certain and pattern in drawn and not words & drawn[pattern]:
            return True
    folder, folders = mask.absolute().parent.name, {f.absolute().parent.name for f in files}
    pattern = re.sub(r"\d+", "#", folder)
    numbered = "#" in pattern and any(letter.isalpha() for letter in pattern)
    return (
        numbered
        and folder not in folders
        and {re.sub(r"\d+", "#", n) for n in folders} == {pattern}
    )


def _by_pattern(names: Iterable[Sequence[str]]) -> dict[str, set[str]]:
    """Return words by pattern, such as "p#"."""
    words: dict[str, set[str]] = defaultdict(set)
    for word in (word for name in names for word in name):
        words[re.sub(r"\d+", "#", word)].add(word)
    return words


def _numbers(name: str) -> list[str]:
    """Return the words with digits that precede the sequence, or "seg", in a name."""
    words = words_of(_REPETITION.sub("", name.lower()))
    ends = (n for n, w in enumerate(words) if sequence_in_words((w,)) or is_label_name(w))
    before = words[: next(ends, None)]
    return [w for w in before if re.search(r"\d", w) and not _SCAN_WORDS.fullmatch(w)]
