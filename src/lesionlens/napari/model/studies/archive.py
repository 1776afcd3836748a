"""What the archive's dialog holds, without Qt: servers, the search, the studies found.

Servers are kept in the user's own settings folder; of a password nothing is, see
`pacs.credentials`.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from lesionlens.base import user_folders
from lesionlens.base.atomic_file import write_atomically
from lesionlens.base.bounded_read import read_json, set_aside_damaged
from lesionlens.base.errors import ReadError, UnusableInputError
from lesionlens.napari.model.state.state import Activity, Problem
from lesionlens.napari.model.wording.candidates import date_words
from lesionlens.site.pacs.connect import connect
from lesionlens.site.pacs.peer import (
    LIMIT,
    FoundStudy,
    StudyQuery,
    check_uid,
    name_pattern,
)
from lesionlens.site.pacs.server import Server

if TYPE_CHECKING:
    from lesionlens.base.run_context import RunContext
    from lesionlens.site.pacs.delivery import Delivery

logger = logging.getLogger(__name__)

MOST_SERVERS = 8
_FIELDS = {
    "--user": "the user name",
    "--cert": "“Our certificate”",
    "--ca": "“Trusted certificates”",
    "--aet": "“Our AE title”",
    "--port": "“Our port”",
    "--out": "“Keep studies in”",
    "--by get or move": "another way under “Fetch by”",
    "--by move": "C-MOVE under “Fetch by”",
    "`lesionlens pacs find`": "the list",
}


def servers_file() -> Path:
    """Return where servers are kept."""
    return user_folders.settings() / "archives.json"


def kept_servers() -> list[Server]:
    """Return the servers used before, the last one first."""
    try:
        return _servers_of(read_json(servers_file()))[:MOST_SERVERS]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, ReadError):
        logger.warning("the saved list of archives cannot be read and is not used")
        return []


def keep_server(server: Server) -> None:
    """Put a server first in the list, before anything is asked of it."""
    others = [one for one in kept_servers() if one.address != server.address]
    try:
        if set_aside_damaged(servers_file(), _are_servers):
            logger.warning("the saved list of archives was damaged; a copy was kept")
        text = json.dumps([one.note() for one in (server, *others)][:MOST_SERVERS], indent=1)
        write_atomically(servers_file(), text)
    except OSError as error:
        logger.warning("the archive is not remembered: %s", error.strerror)


def _servers_of(stored: Any) -> list[Server]:
    return [Server(**one) for one in stored]


def _are_servers(stored: Any) -> bool:
    try:
        return _servers_of(stored) is not None
    except TypeError:
        return False


def studies_folder() -> Path:
    """Return where fetched studies are kept unless the user chooses another folder."""
    return user_folders.data() / "studies"


def free_folder(parent: Path, study: FoundStudy) -> Path:
    """Return a folder that is missing yet, named by day and UID, both checked; by no patient.

    Raises
    ------
    UnusableInputError
        The study's UID is none.
    """
    check_uid(study.study_uid)
    day = cells(study)[0] if re.fullmatch(r"\d{8}", study.study_date) else "undated"
    name = f"{day} {study.study_uid}"
    names = (name, *(f"{name} ({n})" for n in range(2, 1000)))
    return next(parent / name for name in names if not (parent / name).exists())


def day(typed: str) -> str:
    """Return a day as YYYYMMDD, empty for an empty text.

    Raises
    ------
    UnusableInputError
        It is no day.

    Examples
    --------
    >>> day("2026-01-05"), day("20260105"), day("5.1.2026"), day(" ")
    ('20260105', '20260105', '20260105', '')
    """
    text = typed.strip()
    year_first = re.fullmatch(r"(\d{4})[-/.]?(\d{2})[-/.]?(\d{2})", text)
    day_first = re.fullmatch(r"(\d{1,2})\.(\d{1,2})\.(\d{4})", text)
    parts = year_first.groups() if year_first else day_first.groups()[::-1] if day_first else ()
    try:
        return date(*map(int, parts)).strftime("%Y%m%d") if text else ""
    except (ValueError, TypeError) as error:
        raise UnusableInputError(
            found=f"the day {text!r}",
            expected="a day like 2026-01-05",
            next_step="Correct it, or leave it empty for any date",
        ) from error


def query_of(fields: Mapping[str, str]) -> StudyQuery:
    """Return the query of a form: patient_id, name, first, last, modality.

    Raises
    ------
    UnusableInputError
        Nothing narrows the search, or a day is none.
    """
    first, last = day(fields["first"]), day(fields["last"])
    spans = {(True, True): f"{first}-{last}", (True, False): f"{first}-", (False, True): f"-{last}"}
    query = StudyQuery(
        patient_id=fields["patient_id"].strip(),
        patient_name=name_pattern(fields["name"]),
        study_date=first if first == last else spans.get((bool(first), bool(last)), ""),
        modality=fields["modality"],
    )
    if not (query.patient_id or query.patient_name or query.study_date):
        raise UnusableInputError(
            found="a search for every study of the archive",
            expected="a patient's ID, name, or days",
            next_step="Fill in one of them; parts of a name are enough",
        )
    return query


HEADINGS = ("Date", "Patient", "ID", "Modalities", "Description", "Images")


def cells(study: FoundStudy) -> tuple[str, ...]:
    """Return a study as a row of the table, as texts.

    Examples
    --------
    >>> cells(FoundStudy("1.2", "7", "20260105", "Head", ("MR", "SR"), 30, "Doe^Jane"))
    ('2026-01-05', 'Doe, Jane', '7', 'MR, SR', 'Head', '30')
    """
    return (
        date_words(study.study_date) if study.study_date else "",
        ", ".join(part for part in study.patient_name.split("^") if part),
        study.patient_id,
        ", ".join(study.modalities),
        study.description,
        "" if study.instances is None else str(study.instances),
    )


def in_the_dialogs_words(text: str) -> str:
    """Write a command line's option as the field of the dialog that it is.

    Examples
    --------
    >>> in_the_dialogs_words("Choose another folder with --out")
    'Choose another folder with “Keep studies in”'
    """
    for option, words in _FIELDS.items():
        text = text.replace(option, words)
    return text


@dataclass(frozen=True, slots=True)
class ArchiveState:
    """What the dialog shows."""

    studies: tuple[FoundStudy, ...] = ()
    activity: Activity | None = None
    problem: Problem | None = None
    message: str = ""


class ArchiveSession:
    """The state of one dialog; every act replaces it and emits `changed`."""

    changed = Signal(ArchiveState)

    def __init__(self) -> None:
        self.state = ArchiveState()

    def _set(self, **changes: Any) -> None:
        self.state = replace(self.state, **changes)
        self.changed.emit(self.state)

    def found(self, studies: tuple[FoundStudy, ...]) -> str:
        """Take the answer of a search; return what to say of it."""
        self._set(studies=tuple(reversed(studies)))
        if not studies:
            return "No study matches. Try a part of the name, or more days."
        cut = ": narrow the search to see the others" if len(studies) == LIMIT else ""
        return f"{len(studies)} {'study' if len(studies) == 1 else 'studies'}{cut}."

    def begin(self, words: str) -> None:
        """Report that something runs."""
        self._set(activity=Activity(words), problem=None, message="")

    def progressed(self, stage: str, fraction: float) -> None:
        """Report how far it is."""
        if self.state.activity is not None:
            self._set(activity=replace(self.state.activity, stage=stage, fraction=fraction))

    def stopping(self) -> None:
        """Report that a stop was requested."""
        if self.state.activity is not None:
            self._set(activity=replace(self.state.activity, stopping=True))

    def ended(self, message: str = "") -> None:
        """Report that nothing runs any more."""
        self._set(activity=None, message=message)

    def failed(self, problem: Problem) -> None:
        """Report why something did not work; the list stays."""
        shown = replace(
            problem,
            found=in_the_dialogs_words(problem.found),
            expected=in_the_dialogs_words(problem.expected),
            next_step=in_the_dialogs_words(problem.next_step),
        )
        self._set(activity=None, problem=shown)

    def dismiss(self) -> None:
        """Take the failure off the screen."""
        self._set(problem=None)


# --- tasks: called in a thread -----------------------------------------------------------


def search(server: Server, query: StudyQuery, context: RunContext) -> tuple[FoundStudy, ...]:
    """Ask an archive for studies."""
    return connect(server.address, server.access()).find(query, context=context)


@dataclass(frozen=True, slots=True)
class Fetching:
    """A study that is fetched, completely or not at all, into a folder that is missing yet."""

    server: Server
    study_uid: str
    target: Path
    same_patient: bool = False
    """Whether a person confirmed that contradicting files are of one patient."""

    def __call__(self, context: RunContext) -> Path:
        """Return the folder."""
        archive = connect(self.server.address, self.server.access())
        archive.get(
            self.study_uid,
            self.target,
            same_patient=self.same_patient,
            context=context,
        )
        return self.target


@dataclass(frozen=True, slots=True)
class Sending:
    """A result whose DICOM objects are sent."""

    server: Server
    result: Path
    same_patient: bool = False
    """Whether a person confirmed that the study is this patient's in the archive too."""

    def __call__(self, context: RunContext) -> str:
        """Return what happened to them, and what is to know of that."""
        from lesionlens.site.pacs.outbox import (  # noqa: PLC0415  slow: pydicom
            SendOptions,
            send_result,
        )

        address = self.server.address
        archive = connect(address, self.server.access())
        chosen = SendOptions(same_patient=self.same_patient)
        done, notices = send_result(archive, self.result, address, chosen=chosen, context=context)
        return _delivered(done, address, notices)


def _delivered(done: Delivery, address: str, notices: Iterable[str]) -> str:
    """Say what happened to a delivery.

    Raises
    ------
    ResourceError
        The archive refused some of it.
    """
    done.check()
    before = f", {done.before} of them there before" if done.before else ""
    stored = f"{len(done.stored)} objects stored in {address}{before}."
    return "\n".join((stored, *notices))
