"""Who may read what is written: its owner alone, unless LESIONLENS_UMASK says otherwise.

A result, a cache or a list names patients. Their files get the mode 0600 and their folders 0700,
whatever the umask of the process is. LESIONLENS_UMASK takes other permissions away instead: with
027 the group may read, with 022 everybody.
"""

from __future__ import annotations

import os
from pathlib import Path

from lesionlens.base.errors import UnusableInputError

VARIABLE = "LESIONLENS_UMASK"
_OWNER_ALONE = "077"


def umask() -> int:
    """Return the permissions that nobody gets.

    Raises
    ------
    UnusableInputError
        The variable is no octal number between 000 and 077.
    """
    text = os.environ.get(VARIABLE, _OWNER_ALONE)
    try:
        value = int(text, 8)
    except ValueError:
        value = -1
    if not 0 <= value <= 0o077:
        raise UnusableInputError(
            found=f"{VARIABLE}={text[:40]!r}",
            expected="an octal number from 000 to 077: 077 for the owner alone, 027 for the group",
            next_step=f"Set it so, or unset {VARIABLE}",
        )
    return value


def restrict(path: Path) -> None:
    """Give a file or LesionLens folder its permissions; a link stays as it is."""
    if not path.is_symlink():
        path.chmod((0o777 if path.is_dir() else 0o666) & ~umask())


def restrict_tree(folder: Path) -> None:
    """Give everything below a LesionLens folder, and the folder itself, its permissions."""
    for path in (folder, *folder.rglob("*")):
        restrict(path)


def make_folder(folder: Path) -> tuple[Path, ...]:
    """Make a folder and its parents if missing; return those made, deepest first."""
    made = tuple(p for p in (folder, *folder.parents) if not p.exists())
    for path in reversed(made):
        path.mkdir(exist_ok=True)
        restrict(path)
    return made
