"""The read that begins when a study is opened."""

from __future__ import annotations

from dataclasses import dataclass

from lesionlens.site.database.records import ReadKey
from lesionlens.site.database.worklist_database import WorklistDatabase


@dataclass(frozen=True, slots=True)
class ExpectedRead:
    """The read that begins when a study is opened."""

    database: WorklistDatabase
    key: ReadKey
    unaided_first: bool
    rated: bool = False
    """Whether every mark needs a rating."""
