"""Identifying names of a study's files, and their replacement in text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from lesionlens.base.records.study import Study
from lesionlens.imaging.deidentification.vocabulary import is_plain

_MAX_SHORT = 3
"""Letters of a name that also occurs within other words."""


def names_of(study: Study) -> frozenset[str]:
    """Return the names of a study, its files and series, except those of known words only."""
    files = [file.name for series in study.all_series for file in series.files]
    names = {study.name, *files, *(PurePosixPath(name).name for name in files)}
    names |= {series.description for series in study.all_series}
    return frozenset(text for text in names if text and not is_plain(text))


def replace_names(text: str, replacements: Mapping[str, str]) -> str:
    """Replace names in a text, longest first; short ones only where they are no part of a word.

    Examples
    --------
    >>> replace_names("Miller/t1.nii is odd", {"Miller": "A", "Miller/t1.nii": "B"})
    'B is odd'
    >>> replace_names("a part of t1_pat.nii", {"pat": "A", "par": "B"})
    'a part of t1_A.nii'
    """
    if not replacements:
        return text
    pattern = "|".join(map(_pattern, sorted(replacements, key=len, reverse=True)))
    return re.sub(pattern, lambda match: replacements[match[0]], text)


def _pattern(name: str) -> str:
    escaped = re.escape(name)
    return escaped if len(name) > _MAX_SHORT else rf"(?<![^\W\d_]){escaped}(?![^\W\d_])"
