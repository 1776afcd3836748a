"""Turn untrusted names into paths that cannot leave a folder.

Every name from a client, an archive or a zip file goes through `inside` before a file is read,
written or removed.
"""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

from lesionlens.base.errors import UnusableInputError

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""Names that are reserved for devices on Windows, with any extension."""
_MAX_NAME_BYTES = 240


def safe_name(name: str) -> str:
    """Validate a new name: it must be plain on every system.

    Raises
    ------
    UnusableInputError
        It has other characters, is a path, or is a reserved name on Windows.

    Examples
    --------
    >>> safe_name("case-01")
    'case-01'
    """
    if not _PLAIN.fullmatch(name) or ".." in name or name.endswith(".") or DEVICES.fullmatch(name):
        raise UnusableInputError(
            found=f"{name!r:.80} as a name",
            expected="letters, digits, dots, dashes and underscores",
            next_step="Choose a plain name",
        )
    return name


def inside(folder: Path, *names: str) -> Path:
    """Return the path of a name below a folder, whether or not it exists.

    Parameters
    ----------
    folder : Path
        Chosen by the user, and so trusted; it may itself be a link.
    names : str
        One path component each; umlauts and blanks are allowed.

    Raises
    ------
    UnusableInputError
        A name is not a single component, or a link below the folder leads out of it.

    Examples
    --------
    >>> inside(Path("store"), "labels", "a b.nii").as_posix()
    'store/labels/a b.nii'
    """
    path = folder.joinpath(*(_component(name) for name in names))
    target = resolved(path)
    is_circular = any(part.is_symlink() for part in (target, *target.parents))
    if is_circular or not target.is_relative_to(resolved(folder)):
        raise _leads_out(names[-1])
    return path


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


def _component(name: str) -> str:
    has_control = any(unicodedata.category(letter) in ("Cc", "Cf") for letter in name)
    has_separator = any(letter in name for letter in "/\\:")
    is_too_long = len(name.encode("utf-8", "surrogateescape")) > _MAX_NAME_BYTES
    if (
        not name
        or name.startswith(".")
        or has_control
        or has_separator
        or is_too_long
        or DEVICES.fullmatch(name)
    ):
        raise _leads_out(name)
    return name


def _leads_out(name: str) -> UnusableInputError:
    return UnusableInputError(
        found=f"{name!r:.80}, which is not an entry of this folder",
        expected="the name of a listed entry",
        next_step="Request the list, and use a name from it",
    )


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
