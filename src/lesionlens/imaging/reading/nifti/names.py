"""Group the files of several patients or examinations in one folder by their names.

Only words with digits count (`P001_t1c`, `flair_2024-01-05`): other words may be planes or steps of
processing. Such a word identifies an examination only if several sequences share it, so that series
numbers, which differ between files, separate nothing. Of nnU-Net's names (`CASE_0000`), which state
no sequence, the case identifies the examination.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence, Set
from itertools import combinations
from pathlib import Path

from lesionlens.base.labels import MrSequence
from lesionlens.imaging.reading import bids
from lesionlens.imaging.reading.sequences import (
    from_name,
    from_partial_name,
    is_label_name,
    sequence_in_words,
    words_of,
)

_Rule = tuple[Callable[[str], str], Callable[[Iterable[Path]], Set[MrSequence] | Set[str]]]
_DATE = re.compile(
    r"(?<!\d)((?:19|20)\d\d)[-_. ]?(0[1-9]|1[0-2])[-_. ]?(0[1-9]|[12]\d|3[01])"
    r"(?:\d{4}|\d{6})?(?!\d)"  # a time of day, as dcm2niix writes it
)
_SCAN_WORDS = re.compile(r"[23]d|\d+mm|\d+t|n4|mni\d*|\d+(x\d+)+|iso\d+")
"""Words with digits that describe a scan or its processing."""
_SCAN_VOCABULARY = frozenset({
    "ax", "axial", "tra", "trans", "transversal", "sag", "sagittal", "cor", "coronal",
    "brain", "head", "skull", "stripped", "bet", "raw", "reg", "registered", "coreg",
    "warped", "normalized", "bias", "fast", "tse", "fse", "se", "gre", "ffe", "tfe", "spgr",
    "mprage", "space", "cube", "tirm", "fl", "pre", "post", "gd", "gad", "ce", "km", "native",
    "nativ", "sub", "ses", "iso", "high", "low", "res", "hires", "mri", "mr", "series",
})  # fmt: skip
"""Words of planes, acquisition and processing, which name no patient."""
_REPETITION = re.compile(r"(?<![a-z])(run|echo|rep)[-_ ]?\d+")
_SCAN_OPTION = re.compile(r"[epr]\d|b\d+")
"""Echo, acceleration, repetition and b-value, after the sequence; before it P1 is a patient."""
_NNUNET = re.compile(r"(.+)_(000\d)\.nii(\.gz)?", re.IGNORECASE)
"""A case and the number of its channel."""
_SERIES = frozenset({"s#", "se#", "ser#", "series#", "scan#", "im#", "img#"})
"""Patterns of words that number series, not patients."""


def group_by_examination(files: Sequence[Path]) -> dict[str, list[Path]]:
    """Return the files by examination; one group if their names distinguish none.

    Returns
    -------
    dict of str to list of Path
        By the date or the numbers in the names, or by nnU-Net's case, "." for files without any. A
        single group "." unless two keys each have several sequences, with at least one in common.
    """
    rules: tuple[_Rule, ...] = (
        (_date, _sequences),
        (_numbers_before_sequence, _sequences),
        (_numbers, _sequences),
        (_nnunet_case, _nnunet_channels),
    )
    for key_of, sequences_of in rules:
        groups: dict[str, list[Path]] = defaultdict(list)
        for path in files:
            groups[key_of(path.name) or "."].append(path)
        sequences_by_key = {k: sequences_of(paths) for k, paths in groups.items() if k != "."}
        shared = [sequences for sequences in sequences_by_key.values() if len(sequences) > 1]
        if any(sequences & other for sequences, other in combinations(shared, 2)):
            return dict(groups)
    return {".": list(files)}


def mixed_session_notice(names: Iterable[str]) -> str | None:
    """Return a notice if the files of a study, also named by the user, have different sessions."""
    sessions = sorted({session for _, session in map(bids.entities, names)} - {""})
    if len(sessions) < 2:
        return None
    return (
        f"The names of the files have different sessions ({_quoted(sessions)}): check that they "
        "belong to one examination."
    )


def mixed_study_notice(names: Iterable[str]) -> str | None:
    """Return a notice if a study's file names may belong to two patients or days."""
    names = list(names)
    dates = sorted({_date(name) for name in names} - {""})
    if len(dates) > 1:
        return (
            f"The names of the files have different dates ({_quoted(dates)}): check that they "
            "belong to one examination."
        )
    counts: dict[str, int] = defaultdict(int)
    for name in names:
        counts[_numbers_before_sequence(name)] += 1
    counts.pop("", None)
    numbers_patients = any(
        len(words) > 1 and pattern not in _SERIES and re.search("[a-z]", pattern)
        for pattern, words in _words_by_pattern(*names).items()
    )
    if len(counts) > 1 and (max(counts.values()) > 1 or numbers_patients):
        return (
            f"The names of the files begin with different numbers ({_quoted(counts)}): check that "
            "they belong to one patient."
        )
    beginnings = Counter(filter(None, map(_words_before_sequence, names)))
    if len(beginnings) > 1 and max(beginnings.values()) > 1:
        return (
            f"The names of the files begin with different words ({_quoted(beginnings)}): check "
            "that they belong to one patient."
        )
    return None


def _quoted(words: Iterable[str]) -> str:
    return ", ".join(map(repr, sorted(words)))


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


def _sequences(files: Iterable[Path]) -> set[MrSequence]:
    guesses = (from_name(p.name).sequence or from_partial_name(p.name).sequence for p in files)
    return {sequence for sequence in guesses if sequence is not None}


def _nnunet_case(name: str) -> str:
    """Return the case of a name such as `CASE_0000.nii.gz` that states no sequence, else empty."""
    match = None if _sequences([Path(name)]) else _NNUNET.fullmatch(name)
    return match[1] if match else ""


def _nnunet_channels(files: Iterable[Path]) -> set[str]:
    return {match[2] for path in files if (match := _NNUNET.fullmatch(path.name))}


def _date(name: str) -> str:
    """Return the first date in a name as YYYYMMDD; empty if there is none."""
    match = _DATE.search(name)
    return "".join(match.groups()) if match else ""


def _numbers_before_sequence(name: str) -> str:
    """Return the words with digits that precede the sequence in a name, joined by hyphens."""
    words = words_of(_REPETITION.sub("", name.lower()))
    return _joined_numbers(words[: _sequence_index(words)])


def _words_before_sequence(name: str) -> str:
    """Return the other words before the sequence that may name a patient, joined by hyphens.

    Empty if no word names the sequence.
    """
    words = words_of(name)
    index = _sequence_index(words)
    return "-".join(w for w in words[: index or 0] if w.isalpha() and w not in _SCAN_VOCABULARY)


def _sequence_index(words: Sequence[str]) -> int | None:
    """Return the index of the first word that names a sequence or a mask."""
    named = (n for n, w in enumerate(words) if sequence_in_words((w,)) or is_label_name(w))
    return next(named, None)


def _numbers(name: str) -> str:
    """Return all words with digits except the sequence, joined by hyphens."""
    all_words = words_of(_REPETITION.sub("", name.lower()))
    words = [word for word in all_words if not sequence_in_words((word,))]
    return _joined_numbers(word for word in words if not _SCAN_OPTION.fullmatch(word))


def _joined_numbers(words: Iterable[str]) -> str:
    return "-".join(w for w in words if re.search(r"\d", w) and not _SCAN_WORDS.fullmatch(w))
