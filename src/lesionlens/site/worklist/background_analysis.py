"""Results of a list: studies analysed in advance, nearest to the reader first, or in a window."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from pathlib import Path

from lesionlens.base.errors import CancelledError, LesionLensError, UnusableInputError, os_reason
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.results.review.reopen import is_result
from lesionlens.site.cohort.resume import (
    BusyFolderError,
    complete,
    current,
    locked_folder,
    store_outcome,
)
from lesionlens.site.cohort.studies import StudyJob
from lesionlens.site.cohort.work import CohortChoice, analyse, identity, save_result
from lesionlens.site.database.descriptions import refresh_entry, with_result, with_warning
from lesionlens.site.database.records import Status, StudyEntry, StudyOutcome
from lesionlens.site.database.study_files import holds_files, is_of_other_files
from lesionlens.site.database.worklist_database import WorklistDatabase, existing_worklist_database
from lesionlens.site.pacs.server import Server
from lesionlens.site.worklist.sources import fetched, is_to_fetch

CURSOR, UNDER_WAY = "cursor", "under way"
"""Keys of notes: the study being read, and the one being analysed."""
_ARCHIVES = "archives"
"""Key of the note with the settings of each archive by its address, and the address by study."""
_WAIT_S = 0.5
_UNAVAILABLE = "not at hand: "
"""Prefix of a temporary warning while the study is not available."""


def run_ahead(
    database: WorklistDatabase, choice: CohortChoice, *, context: RunContext = SILENT
) -> tuple[StudyOutcome, ...]:
    """Analyse every study of a list without a result of this engine; return their outcomes.

    The order follows the reader: the study being read first, then the later ones, then the
    earlier ones. Results are those of `lesionlens batch`; each skips results of the other. One with
    other files of a batch is kept.

    Parameters
    ----------
    choice : CohortChoice
        Engine, preparation and export options. Contributions of the sequences and dismissed
        regions are always saved, so that a reader can view them without another analysis.
    context : RunContext
        Reports progress; after cancellation nothing of the unfinished study remains.

    Notes
    -----
    Waits while another process analyses into this folder.
    """
    choice = _with_evidence(choice)
    engine = identity(choice)
    with ExitStack() as stack:
        while not context.cancel.is_set():
            try:
                stack.enter_context(locked_folder(database.folder))
            except BusyFolderError:
                context.progress("waiting for the other analysis of this list", 0.0)
                time.sleep(_WAIT_S)
                continue
            return _run_alone(database, choice, engine, context)
    return ()


def _run_alone(
    database: WorklistDatabase, choice: CohortChoice, engine: str, context: RunContext
) -> tuple[StudyOutcome, ...]:
    outcomes: dict[str, StudyOutcome] = {}
    remaining = {entry.name for entry in database.entries()}
    while not context.cancel.is_set():
        entry = next((e for e in from_cursor(database) if e.name in remaining), None)
        if entry is None:
            break
        remaining.discard(entry.name)
        outcome = _analyse(database, entry, choice, engine, context)
        if outcome is not None:
            outcomes[entry.name] = outcome
    database.write_note(UNDER_WAY, None)
    return tuple(outcomes.values())


def store_result(folder: Path, name: str, analysis: Analysis, choice: CohortChoice) -> bool:
    """Store an analysis of a list's study that was made in a window, as `run_ahead` would.

    Returns
    -------
    bool
        False, and nothing is written, if the list has a result of these images, or is being
        analysed in advance, which stores its own.

    Raises
    ------
    UnusableInputError
        The study's files changed since they were analysed, or its result's folder is not free.
    ReadError, ResourceError
        The list is damaged, or cannot be written.
    """
    try:
        with locked_folder(folder), existing_worklist_database(folder) as database:
            return _store_result(database, name, analysis, _with_evidence(choice))
    except BusyFolderError:
        return False


def _store_result(
    database: WorklistDatabase, name: str, analysis: Analysis, choice: CohortChoice
) -> bool:
    entry = database.entry(name)
    if entry is None:  # of a list that another program made anew
        return False
    job = StudyJob(name, Path(entry.place), database.folder / name)
    if is_result(job.out) and not is_of_other_files(job.study, job.out):
        return False
    job = current(database, job)
    if not holds_files(job.study, analysis.run.digests):
        raise UnusableInputError(
            found=f"images of {name!r} that differ from those that were analysed",
            expected="images that do not change while they are read",
            next_step="Open the study again",
        )
    store_outcome(database, job, save_result(job, analysis, choice))
    return True


def _with_evidence(choice: CohortChoice) -> CohortChoice:
    return replace(choice, files=replace(choice.files, evidence=True))


def from_cursor(database: WorklistDatabase) -> Iterator[StudyEntry]:
    """Yield the studies from the one being read to the end, then the earlier ones."""
    entries = database.entries()
    names = [entry.name for entry in entries]
    cursor = database.read_note(CURSOR)
    start = names.index(cursor) if cursor in names else 0
    yield from entries[start:]
    yield from entries[:start]


def _analyse(
    database: WorklistDatabase,
    entry: StudyEntry,
    choice: CohortChoice,
    engine: str,
    context: RunContext,
) -> StudyOutcome | None:
    """Analyse one study; None if done before, or stopped while it was fetched."""
    try:
        entry = local_study(database, entry, context)
        path = Path(entry.place)
        job = StudyJob(entry.name, path, database.folder / entry.name)
        path.stat()  # raises if it is not available
        job = current(database, job)
    except CancelledError:
        return None
    except (LesionLensError, OSError) as error:
        reason = error.found if isinstance(error, LesionLensError) else os_reason(error)
        database.update(
            with_warning(_without_unavailable_warning(entry), f"{_UNAVAILABLE}{reason}")
        )
        return StudyOutcome(entry.name, Status.FAILED, 2, reason)
    if _without_unavailable_warning(entry) is not entry:
        entry = _without_unavailable_warning(entry)
        database.update(entry)
    if complete(database, job, engine, any_files=True) is not None:
        if entry.candidates is None:
            database.update(with_result(entry, job.out))
        return None
    database.write_note(UNDER_WAY, entry.name)
    outcome = analyse(job, choice, context.part(0, 1, f"{entry.name}: {{}}"))
    if outcome.status is not Status.STOPPED:
        store_outcome(database, job, outcome)
    return outcome


def _without_unavailable_warning(entry: StudyEntry) -> StudyEntry:
    """Return an entry without the warning about a missing study."""
    warnings = tuple(warning for warning in entry.warnings if not warning.startswith(_UNAVAILABLE))
    return entry if warnings == entry.warnings else replace(entry, warnings=warnings)


def local_study(
    database: WorklistDatabase,
    entry: StudyEntry,
    context: RunContext,
    *,
    same_patient: bool = False,
) -> StudyEntry:
    """Return a study that is local and described, updating the list.

    A study that is only in the archive is fetched, also if its fetched copy was deleted.
    `same_patient`: whether a person confirmed that all its files are of one patient.

    Raises
    ------
    UnusableInputError
        The study has no folder, and the list no archive.
    """
    if is_to_fetch(entry, database.folder):
        archive = _archive_of(database, entry.name)
        if archive is None:
            raise UnusableInputError(
                found=f"{entry.name} without a folder, in a list without an archive",
                expected="a study on this machine, or a list made from an archive",
                next_step="Make the list again from the archive: List ▾",
            )
        entry = fetched(entry, archive, database.folder, same_patient=same_patient, context=context)
        database.update(entry)
    return refresh_entry(database, entry)


def record_archive(database: WorklistDatabase, names: Iterable[str], archive: Server) -> None:
    """Record from which archive studies are fetched; its settings apply to all that are from it."""
    stored = database.read_note(_ARCHIVES) or {"settings": {}, "addresses": {}}
    stored["settings"][archive.address] = asdict(archive)
    stored["addresses"] |= dict.fromkeys(names, archive.address)
    database.write_note(_ARCHIVES, stored)


def _archive_of(database: WorklistDatabase, name: str) -> Server | None:
    """Return the archive of a study; None if it is from none."""
    stored = database.read_note(_ARCHIVES) or {"addresses": {}}
    address = stored["addresses"].get(name)
    return None if address is None else Server(**stored["settings"][address])


def lower_priority() -> None:
    """Lower this process's priority in favour of the reader's program, if possible."""
    if sys.platform != "win32":
        with suppress(OSError):
            os.nice(10)
