"""Tell the files of several patients or examinations in one folder apart by their names.

Only figures count (`P001_t1c`, `flair_2024-01-05`): two words may be two planes or two steps of
processing. A figure is taken for that of an examination only if several sequences share it, so that
series numbers, which differ with each file, separate nothing.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path

from lesionlens.base.labels import MrSequence
from lesionlens.imaging.reading import bids
from lesionlens.imaging.reading.sequences import (
    from_name,
    from_name_loosely,
    is_label_name,
    sequence_in_words,
    words_of,
)

_DATE = re.compile(
    r"(?<!\d)((?:19|20)\d\d)[-_. ]?(0[1-9]|1[0-2])[-_. ]?(0[1-9]|[12]\d|3[01])"
    r"(?:\d{4}|\d{6})?(?!\d)"  # a time of day, as dcm2niix writes it
)
_OF_THE_SCAN = re.compile(r"[23]d|\d+mm|\d+t|n4|mni\d*|\d+(x\d+)+|iso\d+")
"""Words with figures that describe a scan or its processing."""
_REPETITION = re.compile(r"(?<![a-z])(run|echo|rep)[-_ ]?\d+")
_OPTION = re.compile(r"[epr]\d|b\d+")
"""Echo, acceleration, repetition and b-value, after the sequence; before it P1 is a patient."""


def apart(files: Sequence[Path]) -> dict[str, list[Path]]:
    """Return the files by examination; one group if their names tell no two apart.

    Returns
    -------
    dict of str to list of Path
        By the date or the figures of the names, "." for files without any; a single group "." if
        there are no two figures that each stand for several sequences, of which one is the same.
    """
    for mark in (_date, _figures_before, _figures):
        groups: dict[str, list[Path]] = defaultdict(list)
        for path in files:
            groups[mark(path.name) or "."].append(path)
        found = {key: _sequences(names) for key, names in groups.items() if key != "."}
        several = [one for one in found.values() if len(one) > 1]
        if any(one & other for one, other in combinations(several, 2)):
            return dict(groups)
    return {".": list(files)}


def doubt(names: Iterable[str]) -> str | None:
    """Return a notice if the names of a study's files may be of two patients or days."""
    names = list(names)
    dates = sorted({_date(name) for name in names} - {""})
    if len(dates) > 1:
        return (
            f"The names of the files have different dates ({', '.join(dates)}): check that they "
            "are of one examination."
        )
    groups: dict[str, int] = defaultdict(int)
    for name in names:
        groups[_figures_before(name)] += 1
    groups.pop("", None)
    if len(groups) > 1 and max(groups.values()) > 1:
        return (
            f"The names of the files begin with different figures ({', '.join(sorted(groups))}): "
            "check that they are of one patient."
        )
    return None


def of_another(mask: str, names: Iterable[str]) -> bool:
    """Return whether a mask's name has another subject, session or number than a study's files.

    A number that differs between the study's own files is that of a series and tells nothing.

    Examples
    --------
    >>> images = ["BraTS2021_01660_t1ce.nii.gz", "BraTS2021_01660_flair.nii.gz"]
    >>> of_another("BraTS2021_00002_seg.nii.gz", images)
    True
    >>> of_another("v2_BraTS2021_01660_seg_2.nii.gz", images)
    False
    """
    names = list(names)
    subjects = [{bids.entities(name)[place] for name in names} - {""} for place in (0, 1)]
    if any(
        one and known and one not in known
        for one, known in zip(bids.entities(mask), subjects, strict=True)
    ):
        return True
    own = _by_form(mask)
    for form, theirs in _by_form(*names).items():
        certain = len(theirs) == 1 and (len(names) > 1 or form != "#")
        if certain and form in own and not theirs & own[form]:
            return True
    return False


def in_folder_of_another(mask: Path, files: Iterable[Path]) -> bool:
    """Return whether a mask's folder is named as a study's, but for the figures.

    In many data sets every case has a folder of its own, with files of the same names in each.

    Examples
    --------
    >>> images = [Path("BraTS2021_01660/t1c.nii.gz"), Path("BraTS2021_01660/flair.nii.gz")]
    >>> in_folder_of_another(Path("BraTS2021_00002/seg.nii.gz"), images)
    True
    >>> in_folder_of_another(Path("masks_2/seg.nii.gz"), images)
    False
    """
    own, theirs = mask.absolute().parent.name, {file.absolute().parent.name for file in files}
    form = re.sub(r"\d+", "#", own)
    named = "#" in form and any(letter.isalpha() for letter in form)
    return named and own not in theirs and {re.sub(r"\d+", "#", one) for one in theirs} == {form}


def _by_form(*names: str) -> dict[str, set[str]]:
    """Return the words with figures before the sequence or "seg", by their form, as in "p#"."""
    found: dict[str, set[str]] = defaultdict(set)
    for name in names:
        for word in _figures_before(name).split("-"):
            found[re.sub(r"\d+", "#", word)].add(word)
    found.pop("", None)
    return found


def _sequences(files: Iterable[Path]) -> set[MrSequence]:
    guesses = (from_name(p.name).sequence or from_name_loosely(p.name).sequence for p in files)
    return {sequence for sequence in guesses if sequence is not None}


def _date(name: str) -> str:
    """Return the first date in a name as YYYYMMDD; empty if there is none."""
    found = _DATE.search(name)
    return "".join(found.groups()) if found else ""


def _figures_before(name: str) -> str:
    """Return the words with figures that precede the sequence in a name, joined by hyphens."""
    words = words_of(_REPETITION.sub("", name.lower()))
    first = next(
        (n for n, w in enumerate(words) if sequence_in_words((w,)) or is_label_name(w)), None
    )
    return _joined(words[:first])


def _figures(name: str) -> str:
    """Return all words with figures except the sequence, joined by hyphens."""
    plain = words_of(_REPETITION.sub("", name.lower()))
    words = [word for word in plain if not sequence_in_words((word,))]
    return _joined(word for word in words if not _OPTION.fullmatch(word))


def _joined(words: Iterable[str]) -> str:
    return "-".join(w for w in words if re.search(r"\d", w) and not _OF_THE_SCAN.fullmatch(w))
