"""The table of a cohort: one row per candidate, or per study without candidates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from lesionlens.base.errors import ReadError, ResourceError, UnusableInputError
from lesionlens.base.files import read_rows
from lesionlens.base.labels import ReviewState
from lesionlens.base.storage import check_free, edited_since, write_listed
from lesionlens.base.text import abbreviated_list, safe_cell
from lesionlens.results.export.cells import csv_text
from lesionlens.results.export.tables import column_types
from lesionlens.site.database.reads import verdict_of
from lesionlens.site.database.records import Status, StudyOutcome
from lesionlens.site.database.study_files import run_of
from lesionlens.site.database.worklist_database import NAME as DATABASE
from lesionlens.site.database.worklist_database import (
    existing_worklist_database,
    is_worklist_folder,
)

CSV_NAME = "cohort.csv"
LIST_NAME = "cohort.files.json"
_RESERVED_NAMES = (CSV_NAME, LIST_NAME, DATABASE)
_STUDY_COLUMNS = (
    "study", "date", "engine", "status", "message", "seconds", "candidates",
)  # fmt: skip
_Decisions = Mapping[tuple[str, str], Mapping[str, str]]


def write_table(out: Path, outcomes: Sequence[StudyOutcome]) -> Path:
    """Write `cohort.csv`; return its path.

    A candidate that nobody decided on in its result has the last decision that was made on it in
    the worklist of the same folder.

    Raises
    ------
    ResourceError
        The disk is full or the folder cannot be written; the results are kept.
    """
    names = (*_STUDY_COLUMNS, *column_types())
    decisions = _decisions_in(out)
    rows = (row for outcome in outcomes for row in _rows(out, outcome, decisions))
    text = csv_text(names, ([row.get(name, "") for name in names] for row in rows))
    try:
        return write_listed(out, {CSV_NAME: text}, LIST_NAME)[0]
    except OSError as error:
        raise ResourceError(
            found=f"that {CSV_NAME} cannot be written: {error.strerror or error}",
            expected=f"free space and permission to write into {out.name!r}",
            next_step="Free some space, then run it with --resume: the results of the studies "
            "are kept",
        ) from error


def unread_result_notes(out: Path, outcomes: Iterable[StudyOutcome]) -> tuple[str, ...]:
    """Return a note that names the studies whose candidates are missing in the table."""
    names = [outcome.name for outcome in outcomes if _readable_rows(out, outcome)[1]]
    if not names:
        return ()
    return (
        f"Candidates of {abbreviated_list(names, 10)} are not in {CSV_NAME}: its column `message` "
        "says why their findings.csv cannot be read",
    )


def check_tables(out: Path) -> None:
    """Refuse a folder in which the tables would overwrite foreign or edited files.

    Raises
    ------
    UnusableInputError
        The folder contains such files.
    """
    check_free(out, (CSV_NAME,), LIST_NAME)


def check_names(studies: Iterable[str]) -> None:
    """Refuse studies whose result folders would have the name of a table.

    Raises
    ------
    UnusableInputError
        A study is named like one of the tables.
    """
    conflict = next((name for name in studies if name.casefold() in _RESERVED_NAMES), None)
    if conflict is not None:
        raise UnusableInputError(
            found=f"a study named {conflict!r}",
            expected="another name: the folder of the results has a file of this name",
            next_step="Rename the study's folder, or use a table of studies with a column `name`",
        )


def _decisions_in(out: Path) -> _Decisions:
    """Return the last decision on each candidate in a folder's worklist, by study and candidate."""
    if not is_worklist_folder(out):
        return {}
    with existing_worklist_database(out, reading=True) as database:
        reads = [read for read in database.reads() if not read.key.session]
    events = [(read.key, event) for read in reads for event in read.verdicts]
    return {
        (key.study, event.tracking_uid): {
            "review_state": verdict_of(event),
            "review_reader": safe_cell(key.reader),
            "review_time": event.time,
        }
        for key, event in sorted(events, key=lambda item: item[1].time)
    }


def _rows(
    out: Path, outcome: StudyOutcome, decisions: _Decisions
) -> Iterator[dict[str, str | int | float]]:
    analysed = outcome.status is Status.ANALYSED
    run = run_of(out / outcome.name) if analysed else None
    engine = run.engine if run else None
    made_by = (engine.name, engine.version, (engine.weights_sha256 or "")[:12]) if engine else ()
    study_cells: dict[str, str | int | float] = {
        "study": safe_cell(outcome.name),
        "date": run.started[:10] if run else "",
        "engine": safe_cell(" ".join(filter(None, made_by))),
        "status": outcome.status.value,
        "message": safe_cell(outcome.message),
        "seconds": round(outcome.seconds, 2),
        "candidates": outcome.candidates if analysed else "",
    }
    candidate_rows, reason = _readable_rows(out, outcome)
    if reason:
        study_cells["message"] = f"{study_cells['message']}; findings.csv cannot be read: {reason}"
    for row in candidate_rows:
        decided = row.get("review_state") != ReviewState.UNREVIEWED
        decision = {} if decided else decisions.get((outcome.name, row["tracking_uid"]), {})
        yield {**study_cells, **row, **decision}
    if not candidate_rows:
        yield study_cells


def _readable_rows(out: Path, outcome: StudyOutcome) -> tuple[list[dict[str, str]], str]:
    """Return a study's rows, or why they cannot be read: rows of other studies are kept."""
    if outcome.status is not Status.ANALYSED:
        return [], ""
    try:
        return _candidate_rows(out / outcome.name), ""
    except (OSError, ValueError, ReadError) as error:
        return [], str(getattr(error, "strerror", None) or error)


def _candidate_rows(result: Path) -> list[dict[str, str]]:
    """Return the rows of a result's findings.csv; ValueError if they were changed since."""
    path = result / "findings.csv"
    if path.name in edited_since(result):
        raise ValueError("it was changed since it was written")
    types = column_types()
    return [
        {name: value for name, value in row.items() if name in types} for row in read_rows(path)
    ]
