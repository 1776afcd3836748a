"""Paths with every link followed, and whether one lies within another."""

from __future__ import annotations

import os
import re
from pathlib import Path

from lesionlens.base.errors import UnusableInputError

DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""Names that are reserved for devices on Windows, with any extension."""


def resolved(path: Path) -> Path:
    """Return the absolute path with every link followed, except circular ones.

    `Path.resolve` raises RuntimeError for a circular link before Python 3.13.
    """
    return Path(os.path.realpath(path))


def absolute(path: Path) -> Path:
    """Return the absolute path without `.` and `..`; links keep their names.

    Examples
    --------
    >>> absolute(Path("studies/../a")) == Path.cwd() / "a"
    True
    """
    return Path(os.path.abspath(path))  # noqa: PTH100  (`Path.absolute` keeps `..`)


def is_within(path: Path, folder: Path) -> bool:
    """Return whether a path is a folder or lies in it, once links are followed."""
    target = resolved(path)
    return resolved(folder) in (target, *target.parents)


def check_outside(study: Path, out: Path) -> None:
    """Refuse an output folder within a study, which is never written to.

    Raises
    ------
    UnusableInputError
        The output folder is the study or lies in it.
    """
    if study.is_dir() and is_within(out, study):
        raise UnusableInputError(
            found="an output folder within the study",
            expected="a folder outside it: a study is never written to",
            next_step="Choose another output folder",
        )
