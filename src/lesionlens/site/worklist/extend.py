"""Add studies to a list, and correct what it names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from lesionlens.base.errors import UnusableInputError
from lesionlens.site.database.describing import Description
from lesionlens.site.database.records import StudyEntry
from lesionlens.site.database.worklist_database import WorklistDatabase


def extend(database: WorklistDatabase, found: Iterable[StudyEntry]) -> int:
    """Add the studies of a source to a list; return the number of new ones.

    A known study takes the patient and date that the source names, and its folder if it was moved.

    Raises
    ------
    UnusableInputError
        The list has another study of the same name; nothing was changed.
    """
    entries = tuple(found)
    known = {entry.name: entry for entry in database.entries()}
    others = [one.name for one in entries if _is_another(known.get(one.name), one)]
    if others:
        more = f" (and {len(others) - 1} more)" if len(others) > 1 else ""
        raise UnusableInputError(
            found=f"a study {others[0]!r}{more}, which the list has from another folder",
            expected="different names, which are the names of the result folders",
            next_step="Make a list of its own with another --list, or name the studies in a CSV "
            "table with a column `name`",
            in_window="Choose another folder for the list, or name the studies in a CSV table with "
            "a column `name`",
        )
    new = database.add_studies(entries)
    for entry in entries:
        if entry.name in known:
            _correct(database, known[entry.name], entry)
    return new


def _is_another(known: StudyEntry | None, found: StudyEntry) -> bool:
    """Return whether a listed study of this name is still in another folder."""
    if known is None or not known.place or not found.place:
        return False
    return known.place != found.place and Path(known.place).exists()


def _correct(database: WorklistDatabase, known: StudyEntry, found: StudyEntry) -> None:
    """Update a study's folder, and its patient and date if the source names any."""
    about = Description.of(database, known.name)
    patient, date = (known.patient, known.date) if about is None else about.listed
    listed, place = (found.patient or patient, found.date or date), found.place or known.place
    if listed == (patient, date) and place == known.place:
        return
    if about is not None:
        replace(about, files="", listed=listed).store(database, known.name)  # to be read again
    database.update(
        replace(
            known, place=place, patient=listed[0] or known.patient, date=listed[1] or known.date
        )
    )
