"""Recently opened studies and lists, stored in the user's data folder."""

from __future__ import annotations

from pathlib import Path

from lesionlens.base.files import user_files, user_folders
from lesionlens.base.files.bounded_read import read_object

STUDIES, LISTS = "studies", "lists"
_MAX_PATHS = 8


def place() -> Path:
    """Return the path of the stored paths."""
    return user_folders.data() / "recent.json"


def remember(kind: str, opened: Path) -> None:
    """Store a path as the most recent one; a failure is only logged."""
    known = {one: _known(one) for one in (STUDIES, LISTS)}
    first = str(opened.resolve())
    if known[kind][:1] == [first]:
        return
    known[kind] = [first, *(one for one in known[kind] if one != first)][:_MAX_PATHS]
    user_files.store(place(), known, "the recently opened studies")


def recall(kind: str) -> tuple[Path, ...]:
    """Return the existing paths of a kind, most recent first."""
    return tuple(path for path in map(Path, _known(kind)) if path.exists())


def _known(kind: str) -> list[str]:
    found = read_object(place()).get(kind, [])
    return [str(one) for one in found] if isinstance(found, list) else []
