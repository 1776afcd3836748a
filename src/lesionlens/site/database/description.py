"""What was read of a study's files, recorded in the notes of a list."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TypeAlias

from pydantic import TypeAdapter, ValidationError

from lesionlens.site.database.worklist_database import WorklistDatabase

Identity: TypeAlias = tuple[str, str]
"""Patient identifier and date, YYYY-MM-DD; empty if unknown."""


@dataclass(frozen=True, slots=True)
class Description:
    """Identity of a study, as its list and its images name it."""

    files: str
    """Fingerprint of the files that were read."""
    listed: Identity
    """What the list itself names, as from a table or an archive."""
    images: Identity
    """What the images named when they were last read."""
    read_as: Identity | None = None
    """What the images named when a reader decided, if they name others now."""
    warnings: tuple[str, ...] = ()
    """Warnings about the identity, which an analysis leaves."""
    contents: str = ""
    """SHA-256 of the images, if they name no patient; else empty."""
    read_contents: str | None = None
    """SHA-256 of the images when a reader decided, if they are others now."""

    @classmethod
    def of(cls, database: WorklistDatabase, name: str) -> Description | None:
        """Return the description of a study; None if none is recorded."""
        stored = database.note(_note(name))
        try:
            return None if stored is None else TypeAdapter(cls).validate_python(stored)
        except ValidationError:  # of a later release
            return None

    def store(self, database: WorklistDatabase, name: str) -> None:
        """Record the description of a study."""
        database.take_note(_note(name), asdict(self))


def _note(name: str) -> str:
    return f"described: {name}"
