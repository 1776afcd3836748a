"""Add studies to a list, and correct what it names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import replace

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.files import exists
from lesionlens.base.text import case_folded
from lesionlens.site.database.descriptions import Description, PatientAndDate
from lesionlens.site.database.records import StudyEntry
from lesionlens.site.database.worklist_database import WorklistDatabase


def extend(database: WorklistDatabase, source: Iterable[StudyEntry]) -> int:
    """Add the studies of a source to a list; return the number of new ones.

    A known study takes the patient and date that the source names, and its folder if it was moved.

    Raises
    ------
    UnusableInputError
        The list has another study of the same name, also without regard to case or Unicode form, by
        which some disks distinguish no folders; nothing was changed.
    """
    entries = tuple(source)
    known = {entry.name for entry in database.entries()}
    # Another process may have added a study of the same name in the meantime.
    return _add_or_correct(database, entries, lambda: _check_names(database, entries, known))


def _check_names(
    database: WorklistDatabase, entries: Iterable[StudyEntry], known: Set[str]
) -> None:
    listed, known_forms = {e.name: e for e in database.entries()}, set(map(case_folded, known))
    conflicting = [
        e.name
        for e in entries
        if _is_other_folder(listed.get(e.name), e)
        or (e.name not in known and case_folded(e.name) in known_forms)
    ]
    if conflicting:
        suffix = f" (and {len(conflicting) - 1} more)" if len(conflicting) > 1 else ""
        raise UnusableInputError(
            found=f"a study {conflicting[0]!r}{suffix}, which the list has from another folder",
            expected="different names, which are the names of the result folders",
            next_step="Create a separate list with another --list, or name the studies in a CSV "
            "table with a column `name`",
            in_window="Choose another folder for the list, or name the studies in a CSV table with "
            "a column `name`",
        )


def extend_in_place(database: WorklistDatabase, entries: Sequence[StudyEntry]) -> None:
    """Add studies as `extend` does; one that the list has from another folder stays as it is."""
    listed = {entry.name: entry for entry in database.entries()}
    in_place = [e for e in entries if e.name not in listed or listed[e.name].place == e.place]
    _add_or_correct(database, in_place)


def _add_or_correct(
    database: WorklistDatabase,
    entries: Sequence[StudyEntry],
    check: Callable[[], None] = lambda: None,
) -> int:
    """Add studies, and correct those that are listed; return the number of new ones."""
    listed = {entry.name: entry for entry in database.entries()}
    n_added = database.add_studies(entries, check)
    for entry in entries:
        if entry.name in listed:
            _correct(database, listed[entry.name], entry)
    return n_added


def _is_other_folder(existing: StudyEntry | None, entry: StudyEntry) -> bool:
    """Return whether a listed study of this name is still in another folder."""
    if existing is None or not existing.place or not entry.place:
        return False
    return existing.place != entry.place and exists(existing.place)


def _correct(database: WorklistDatabase, existing: StudyEntry, entry: StudyEntry) -> None:
    """Update a study's folder, and its patient and date if the source names any."""
    description = Description.of(database, existing.name)
    listed = description.listed if description else PatientAndDate(existing.patient, existing.date)
    named = PatientAndDate(entry.patient or listed.patient, entry.date or listed.date)
    path = entry.place or existing.place
    if named == listed and path == existing.place:
        return
    corrected = replace(
        existing,
        place=path,
        patient=named.patient or existing.patient,
        date=named.date or existing.date,
    )
    if description is None:
        database.update(corrected)
    else:  # its files are read again
        replace(description, files="", listed=named).store(database, corrected)
