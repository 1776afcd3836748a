"""Recently opened studies and lists, stored in the user's data folder."""

from __future__ import annotations

from pathlib import Path

from lesionlens.base.files import exists, read_object, user_data
from lesionlens.base.storage import store_json

STUDIES, LISTS = "studies", "lists"
_MAX_PATHS = 8


def stored_file() -> Path:
    """Return the file in which the paths are stored."""
    return user_data() / "recent.json"


def remember(kind: str, opened: Path) -> None:
    """Store a path as the most recent one; a failure is only logged."""
    paths_by_kind = {kind_name: _stored_paths(kind_name) for kind_name in (STUDIES, LISTS)}
    latest = str(opened.resolve())
    if paths_by_kind[kind][:1] == [latest]:
        return
    others = [path for path in paths_by_kind[kind] if path != latest]
    paths_by_kind[kind] = [latest, *others][:_MAX_PATHS]
    store_json(stored_file(), paths_by_kind, "the recently opened studies")


def recall(kind: str) -> tuple[Path, ...]:
    """Return the existing paths of a kind that can be reached, most recent first."""
    return tuple(Path(path) for path in _stored_paths(kind) if exists(path))


def _stored_paths(kind: str) -> list[str]:
    stored = read_object(stored_file()).get(kind, [])
    return [str(path) for path in stored] if isinstance(stored, list) else []
