"""Model of the archive's dialog, without Qt: servers, the search, the studies found.

Servers are stored in the user's settings folder, passwords in the keyring (`pacs.credentials`).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from typing_extensions import override

from lesionlens.base.errors import ReadError, UnusableInputError
from lesionlens.base.files import read_json, user_data, user_settings
from lesionlens.base.storage import store_json
from lesionlens.base.text import counted
from lesionlens.napari.model.state.holder import ScreenHolder
from lesionlens.napari.model.state.state import Activity, Problem
from lesionlens.napari.model.wording.candidates import date_text
from lesionlens.site.pacs.peer import LIMIT, FoundStudy, StudyQuery, check_uid, name_pattern
from lesionlens.site.pacs.server import Server

logger = logging.getLogger(__name__)

MAX_SERVERS = 8
_FIELDS = {
    "--user": "the user name",
    "--cert": "“Client certificate”",
    "--ca": "“Trusted certificates”",
    "--aet": "“Local AE title”",
    "--port": "“Local port”",
    "--out": "“Keep studies in”",
    "--by get or move": "another way under “Fetch by”",
    "--by move": "C-MOVE under “Fetch by”",
    "`lesionlens pacs find`": "the list",
}


def servers_file() -> Path:
    """Return the path of the stored servers."""
    return user_settings() / "archives.json"


def stored_servers() -> list[Server]:
    """Return the stored servers, most recent first."""
    try:
        return _servers_of(read_json(servers_file()))[:MAX_SERVERS]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, ReadError):
        logger.warning("the saved list of archives cannot be read and is not used")
        return []


def keep_server(server: Server) -> None:
    """Store a server as the most recent one."""
    others = [other for other in stored_servers() if other.address != server.address]
    notes = [asdict(entry) for entry in (server, *others)][:MAX_SERVERS]
    store_json(servers_file(), notes, "the list of archives", _are_servers)


def _servers_of(stored: Any) -> list[Server]:
    return [Server(**fields) for fields in stored]


def _are_servers(stored: Any) -> bool:
    try:
        return _servers_of(stored) is not None
    except TypeError:
        return False


def studies_folder() -> Path:
    """Return the default folder of retrieved studies."""
    return user_data() / "studies"


def free_folder(parent: Path, study: FoundStudy) -> Path:
    """Return a new folder named by date and UID, both validated; never by the patient.

    Raises
    ------
    UnusableInputError
        The study's UID is invalid.
    """
    check_uid(study.study_uid)
    day = cells(study)[0] if re.fullmatch(r"\d{8}", study.study_date) else "undated"
    name = f"{day} {study.study_uid}"
    names = (name, *(f"{name} ({n})" for n in range(2, 1000)))
    return next(parent / name for name in names if not (parent / name).exists())


def day(typed: str) -> str:
    """Return a date as YYYYMMDD, empty for an empty text.

    Raises
    ------
    UnusableInputError
        The text is not a date.

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
            f"{text!r} is not a date such as 2026-01-05.",
            hint="Correct it, or leave it empty for any date.",
        ) from error


def query_of(fields: Mapping[str, str]) -> StudyQuery:
    """Return the query of a form: patient_id, name, first, last, modality.

    Raises
    ------
    UnusableInputError
        No field narrows the search, or a date is invalid.
    """
    first, last = day(fields["first"]), day(fields["last"])
    query = StudyQuery(
        patient_id=fields["patient_id"].strip(),
        patient_name=name_pattern(fields["name"]),
        study_date=first if first == last else f"{first}-{last}",
        modality=fields["modality"],
    )
    if not (query.patient_id or query.patient_name or query.study_date):
        raise UnusableInputError(
            "This search is for every study of the archive.",
            hint="Fill in a patient ID, a name or dates; parts of a name are enough.",
        )
    return query


HEADINGS = ("Date", "Patient", "ID", "Modalities", "Description", "Images")


def cells(study: FoundStudy) -> tuple[str, ...]:
    """Return a study as a row of texts.

    Examples
    --------
    >>> cells(FoundStudy("1.2", "7", "20260105", "Head", ("MR", "SR"), 30, "Doe^Jane"))
    ('2026-01-05', 'Doe, Jane', '7', 'MR, SR', 'Head', '30')
    """
    return (
        date_text(study.study_date) if study.study_date else "",
        ", ".join(part for part in study.patient_name.split("^") if part),
        study.patient_id,
        ", ".join(study.modalities),
        study.description,
        "" if study.instances is None else str(study.instances),
    )


def in_dialog(problem: Problem) -> Problem:
    """Return a problem in terms of the dialog's fields."""
    return replace(
        problem,
        found=in_dialog_terms(problem.found),
        expected=in_dialog_terms(problem.expected),
        next_step=in_dialog_terms(problem.next_step),
    )


def in_dialog_terms(text: str) -> str:
    """Replace command-line options by the dialog's fields.

    Examples
    --------
    >>> in_dialog_terms("Choose another folder with --out")
    'Choose another folder with “Keep studies in”'
    """
    for option, field in _FIELDS.items():
        text = text.replace(option, field)
    return text


@dataclass(frozen=True, slots=True)
class ArchiveScreen:
    """Content of the dialog; frozen."""

    folder: Path
    """Retrieved studies are stored below it."""
    address: str = ""
    """Address of the archive, as typed."""
    studies: tuple[FoundStudy, ...] = ()
    """Found studies, newest first."""
    chosen: int | None = None
    """Index of the selected study."""
    activity: Activity | None = None
    problem: Problem | None = None
    message: str = ""

    @property
    def ready(self) -> bool:
        """Whether a request can be sent."""
        return self.activity is None and bool(self.address)


class ArchiveSession(ScreenHolder):
    """The state of one dialog; every change replaces it and emits its screen."""

    def __init__(self) -> None:
        self.state: ArchiveScreen = ArchiveScreen(studies_folder())

    @property
    def chosen(self) -> FoundStudy | None:
        """The selected study."""
        number = self.state.chosen
        return None if number is None else self.state.studies[number]

    def type_address(self, address: str) -> None:
        """Set the address of the archive."""
        self._set(address=address)

    def choose(self, number: int | None) -> None:
        """Select a study by its row."""
        if number != self.state.chosen:
            self._set(chosen=number)

    def choose_folder(self, folder: Path) -> None:
        """Set the folder for retrieved studies."""
        self._set(folder=folder)

    def found(self, studies: tuple[FoundStudy, ...]) -> str:
        """Show the studies of a search; return a message."""
        self._set(studies=tuple(reversed(studies)), chosen=None)
        if not studies:
            return "No study matches. Try a part of the name, or more days."
        cut = ": narrow the search if one is missing" if len(studies) == LIMIT else ""
        return f"{counted(len(studies), 'study', 'studies')}{cut}."

    @override
    def progressed(self, stage: str, fraction: float) -> None:
        """Report the progress of the job, which has one stage."""
        if self.state.activity is not None:
            self._set(activity=replace(self.state.activity, stage=stage, fraction=fraction))

    @override
    def failed(self, problem: Problem) -> None:
        """Report a failure; the studies found stay listed."""
        self._set(activity=None, problem=in_dialog(problem))

    def dismiss(self) -> None:
        """Hide the failure."""
        self._set(problem=None)
