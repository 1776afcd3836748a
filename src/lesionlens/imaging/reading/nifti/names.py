"""Compare the names of files: whether they may belong to two patients or examinations."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

from lesionlens.imaging.reading import bids
from lesionlens.imaging.reading.sequences import (
    is_label_name,
    sequence_in_words,
    words_of,
)

_SCAN_WORDS = re.compile(r"[23]d|\d+mm|\d+t|n4|mni\d*|\d+(x\d+)+|iso\d+")
"""Words with digits that describe a scan or its processing."""
_REPETITION = re.compile(r"(?<![a-z])(run|echo|rep)[-_ ]?\d+")
_SERIES = frozenset({"s#", "se#", "ser#", "series#", "scan#", "im#", "img#"})
"""Patterns of words that number series, not patients."""


def mixed_study_notice(names: Iterable[str]) -> str | None:
    """Return a notice if a study's file names differ in their BIDS session or leading number."""
    names = list(names)
    found = sorted({session for _, session in map(bids.entities, names)} - {""})
    kind = "have different sessions"
    if len(found) < 2:
        kind = "begin with different numbers"
        names = [name for name in names if not bids.entities(name)[0]]
        counts = Counter(filter(None, map(_numbers_before_sequence, names)))
        numbers_patients = any(
            len(words) > 1 and pattern not in _SERIES and re.search("[a-z]", pattern)
            for pattern, words in _words_by_pattern(*names).items()
        )
        is_shared = max(counts.values(), default=0) > 1
        found = sorted(counts) if is_shared or numbers_patients else []
    if len(found) < 2:
        return None
    return (
        f"The names of the files {kind} ({', '.join(map(repr, found))}): check that they belong to "
        "one examination of one patient."
    )


def is_of_other_study(mask: str, names: Iterable[str]) -> bool:
    """Return whether a mask's name differs from a study's in subject, session or number.

    A number that differs between the study's own files is a series number and is ignored.

    Examples
    --------
    >>> images = ["BraTS2021_01660_t1ce.nii.gz", "BraTS2021_01660_flair.nii.gz"]
    >>> is_of_other_study("BraTS2021_00002_seg.nii.gz", images)
    True
    >>> is_of_other_study("v2_BraTS2021_01660_seg_2.nii.gz", images)
    False
    """
    names = list(names)
    subjects = [{bids.entities(name)[index] for name in names} - {""} for index in (0, 1)]
    if any(
        own_label and study_labels and own_label not in study_labels
        for own_label, study_labels in zip(bids.entities(mask), subjects, strict=True)
    ):
        return True
    own_words = _words_by_pattern(mask)
    for pattern, study_words in _words_by_pattern(*names).items():
        certain = len(study_words) == 1 and (len(names) > 1 or pattern != "#")
        if certain and pattern in own_words and not study_words & own_words[pattern]:
            return True
    return False


def is_in_folder_of_other_study(mask: Path, files: Iterable[Path]) -> bool:
    """Return whether a mask's folder differs from the study's only in its digits.

    In many data sets every case has its own folder, with files of the same names in each.

    Examples
    --------
    >>> images = [Path("BraTS2021_01660/t1c.nii.gz"), Path("BraTS2021_01660/flair.nii.gz")]
    >>> is_in_folder_of_other_study(Path("BraTS2021_00002/seg.nii.gz"), images)
    True
    >>> is_in_folder_of_other_study(Path("masks_2/seg.nii.gz"), images)
    False
    """
    own_folder = mask.absolute().parent.name
    study_folders = {file.absolute().parent.name for file in files}
    pattern = re.sub(r"\d+", "#", own_folder)
    has_number = "#" in pattern and any(letter.isalpha() for letter in pattern)
    if not has_number or own_folder in study_folders:
        return False
    return {re.sub(r"\d+", "#", name) for name in study_folders} == {pattern}


def _words_by_pattern(*names: str) -> dict[str, set[str]]:
    """Return the words with digits before the sequence or "seg", by pattern, such as "p#"."""
    words: dict[str, set[str]] = defaultdict(set)
    for name in names:
        for word in _numbers_before_sequence(name).split("-"):
            words[re.sub(r"\d+", "#", word)].add(word)
    words.pop("", None)
    return words


def _numbers_before_sequence(name: str) -> str:
    """Return the words with digits that precede the sequence in a name, joined by hyphens."""
    words = words_of(_REPETITION.sub("", name.lower()))
    named = (n for n, w in enumerate(words) if sequence_in_words((w,)) or is_label_name(w))
    before = words[: next(named, None)]
    return "-".join(w for w in before if re.search(r"\d", w) and not _SCAN_WORDS.fullmatch(w))
