"""Sources of a worklist's studies: a folder, a BIDS dataset, a CSV table or an archive."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.files import check_outside, exists, is_file, resolved
from lesionlens.base.records.patient import Patient
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.base.text import is_writable, iso_date
from lesionlens.site.cohort.studies import find_jobs, listed
from lesionlens.site.cohort.study_table import read_table
from lesionlens.site.database.records import StudyEntry
from lesionlens.site.database.worklist_database import is_worklist_folder
from lesionlens.site.pacs.connect import connect
from lesionlens.site.pacs.peer import FoundStudy, StudyQuery
from lesionlens.site.pacs.server import Server

_RESULT_FILES = frozenset({"report.html", "findings.json"})


def studies_at(path: Path, folder: Path) -> tuple[StudyEntry, ...]:
    """Return the studies of a folder with one sub-folder each, of a BIDS dataset, or of a CSV.

    Parameters
    ----------
    folder : Path
        Folder of the list, for results.

    Raises
    ------
    UnusableInputError
        The path is of no such kind, or contains no study; or the list's folder lies within one.
    """
    if path.is_file():
        rows = [replace(r, place=str(resolved(Path(r.place)))) for r in read_table(path)]
        entries = [_storable(row.name, row if is_writable(row.place) else None) for row in rows]
    else:
        is_list_inside = path.resolve() in folder.resolve().parents
        entries = [
            _storable(job.name, listed(job))
            for job in find_jobs(path, folder)
            if not (is_list_inside and _is_own_output(job.study))
        ]
    for entry in entries:
        check_outside(Path(entry.place), folder)
    return tuple(entries)


def _storable(name: str, entry: StudyEntry | None) -> StudyEntry:
    """Return a list entry; None, for a path that the database cannot store, is refused."""
    if entry is None:
        raise UnusableInputError(
            found=f"a folder whose path is not UTF-8: '{name}'",
            expected="names that can be stored in a list",
            next_step="Rename it; `lesionlens batch` analyses it as it is",
            in_window="Rename it",
        )
    return entry


def _is_own_output(folder: Path) -> bool:
    """Return whether a folder is a worklist or result rather than a study."""
    return is_worklist_folder(folder) or any(is_file(folder / name) for name in _RESULT_FILES)


def studies_of(
    archive: Server, query: StudyQuery, *, context: RunContext = SILENT
) -> tuple[StudyEntry, ...]:
    """Return the matching studies of an archive; they are fetched later.

    Raises
    ------
    UnusableInputError
        No study matches.
    """
    studies = connect(archive).find(query, context=context)
    if not studies:
        raise UnusableInputError(
            found="no matching study in the archive",
            expected="at least one",
            next_step="Search for other dates, or for a part of the name",
        )
    return tuple(archived(study) for study in studies)


def archived(study: FoundStudy) -> StudyEntry:
    """Return a list entry for a study found in an archive, without a path yet."""
    date = iso_date(study.study_date)
    return StudyEntry(study.study_uid, "", study.patient_id, date, study_uid=study.study_uid)


def fetched(
    entry: StudyEntry,
    archive: Server,
    folder: Path,
    *,
    same_patient: bool = False,
    context: RunContext,
) -> StudyEntry:
    """Fetch a study into `studies/UID` below the list; return its entry with the path.

    `same_patient`: whether a person confirmed that all its files are of one patient.

    Raises
    ------
    UnusableInputError
        The path of the list's folder cannot be stored, or the study cannot be fetched.
    """
    target = _copy_of(entry, folder)
    if not is_writable(str(target.resolve())):
        raise UnusableInputError(
            found="a list in a folder whose path is not UTF-8, which it cannot store",
            expected="a path that can be stored in the list, for a study of an archive",
            next_step="Rename the folder, then open the list there",
        )
    with suppress(OSError):
        target.rmdir()  # an empty folder is no study
    if not target.is_dir():
        try:
            connect(archive).get(
                entry.study_uid,
                target,
                listed=Patient(),  # the list warns if its patient is not that of the images
                same_patient=same_patient,
                context=context.quiet(),
            )
        except UnusableInputError:
            if not target.is_dir():  # else the window or the background process fetched it first
                raise
    return replace(entry, place=str(target.resolve()))


def is_to_fetch(entry: StudyEntry, folder: Path) -> bool:
    """Return whether a list's study is only in the archive; its fetched copy may be deleted."""
    if not entry.place or not entry.study_uid:
        return not entry.place
    copy = _copy_of(entry, folder).resolve()
    return entry.place == str(copy) and not exists(copy)


def _copy_of(entry: StudyEntry, folder: Path) -> Path:
    """Return where the files of an archive's study are stored."""
    return folder / "studies" / entry.study_uid
