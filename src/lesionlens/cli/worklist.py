"""`lesionlens worklist scan|show|ahead`: worklists and the progress of readers."""

from __future__ import annotations

import os
import sys
import textwrap
import threading
from contextlib import closing
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lesionlens.base.storage import check_target
from lesionlens.base.text import case_folded, counted, score_digits
from lesionlens.cli import checks, options
from lesionlens.cli.console import STOP, CommandOutput, new_table, plain, progress_bar
from lesionlens.cli.engine_options import DEFAULT_ENGINE, Engine
from lesionlens.cli.pacs import ACCESS, ArchiveAccess
from lesionlens.site.pacs.peer import LIMIT, StudyQuery

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lesionlens.site.database.records import StudyEntry, WorklistRow

List = Annotated[Path, typer.Argument(help="Folder of the list, from `scan`.", metavar="LIST")]
Reader = Annotated[str, typer.Option(help="Reader's name, as in the preferences of the plugin.")]


def scan(
    source: Annotated[
        str,
        typer.Argument(
            help="Folder with one sub-folder per study, BIDS dataset, CSV table with a column "
            "`study`, or address of an archive (see `lesionlens pacs find`).",
            metavar="SOURCE",
        ),
    ],
    folder: Annotated[
        Path, typer.Option("--list", help="Folder of the list; results go there.", metavar="LIST")
    ],
    patient: Annotated[str, typer.Option(help="Archive: patient ID.")] = "",
    date: Annotated[str, typer.Option(help="Archive: YYYYMMDD, or YYYYMMDD-YYYYMMDD.")] = "",
    access: ArchiveAccess = ACCESS,
    again: Annotated[bool, typer.Option("--again", help="Scan known studies again.")] = False,
) -> CommandOutput:
    """Create a list of studies, or add to one; nothing is analysed.

    LIST/studies.sqlite stores patient ID, date, sequences and notices from the file headers, but
    no names. Studies of an archive are fetched when needed.
    """
    from lesionlens.site.cohort.studies import left_out
    from lesionlens.site.cohort.study_table import ignored_column_notes
    from lesionlens.site.database.add_studies import extend
    from lesionlens.site.database.descriptions import describe_studies
    from lesionlens.site.database.worklist_database import open_worklist_database
    from lesionlens.site.worklist.background_analysis import record_archive
    from lesionlens.site.worklist.sources import studies_at, studies_of

    archive_options = {"--patient": patient, "--date": date, **access.given}
    checks.check_used("the address of an archive", "://" in source, archive_options)
    check_target(folder)
    place = checks.named(Path(source))  # of studies on this machine
    with progress_bar() as context:
        context.progress("looking for studies", 0.0)
        archive = None
        if "://" in source:
            archive = access.server(source)
            query = StudyQuery(patient_id=patient, study_date=date)
            studies = studies_of(archive, query, context=context)
        else:
            studies = studies_at(place, folder)
        STOP.record_only()  # from here on the list changes, and keeps what it holds
        with closing(open_worklist_database(folder)) as database:
            new_count = extend(database, studies)
            if archive is not None:
                record_archive(database, (study.name for study in studies), archive)
            describe_studies(database, context=context, force=again)
            entries = database.entries()
    warned_count = sum(bool(entry.warnings) for entry in entries)
    summary = f"{counted(len(entries), 'study', 'studies')} in {plain(str(folder))}"
    notes: tuple[str, ...] = ()
    if archive is None:
        notes = (*ignored_column_notes(place), *left_out(place, folder))
    else:
        notes = _archive_notes(studies, patient)
    return CommandOutput(
        (f"{summary}, {new_count} of them new, {warned_count} with warnings",), notes
    )


def _archive_notes(studies: Sequence[StudyEntry], patient: str) -> tuple[str, ...]:
    """Return notes about the studies that an archive lists for a Patient ID, empty for any."""
    notes = []
    if len(studies) == LIMIT:
        notes.append(
            f"{LIMIT} studies of the archive are listed, the limit for one search: scan shorter "
            "date ranges if one is missing"
        )
    pattern = case_folded(patient).replace("[", "[[]")
    listed = {study.patient for study in studies if patient and study.patient}
    n_others = sum(not fnmatchcase(case_folded(found), pattern) for found in listed)
    if n_others:
        notes.append(
            f"The archive lists studies of {counted(n_others, 'other patient ID')} too: it does "
            "not search by that ID. Check the list before you analyse it"
        )
    return tuple(notes)


def show(
    folder: List,
    reader: Reader = "",
    query: Annotated[
        str,
        typer.Option("--filter", help="Words that a row must contain; -word: must not contain."),
    ] = "",
    json: options.Json = False,
) -> CommandOutput:
    """List the studies as shown to one reader; in a reader study, in their reading order."""
    from lesionlens.site.database.worklist_database import existing_worklist_database
    from lesionlens.site.worklist.protocol import read_protocol
    from lesionlens.site.worklist.rows import matching, rows_of
    from lesionlens.site.worklist.site_policy import unaided_first_required

    with existing_worklist_database(folder, reading=True) as database:
        protocol = read_protocol(folder)
        unaided_first = unaided_first_required()
        rows = matching(rows_of(database, reader, protocol, unaided_first=unaided_first), query)
    if json:
        return CommandOutput.of_json([_row(row) for row in rows])
    headings = ("study", "patient", "date", "sequences", "state", "score", "candidates")
    table = new_table(headings, text_columns=5)
    table.columns[headings.index("date")].no_wrap = True
    for row in rows:
        table.add_row(*(plain(cell) for cell in _cells(row)))
    noun = ("study", "studies") if protocol is None else ("read",)
    return CommandOutput((table, *_warnings(rows), counted(len(rows), *noun)))


def _cells(row: WorklistRow) -> tuple[str, ...]:
    entry: StudyEntry = row.entry
    arm = f"{row.session}: {row.arm.value}, " if row.session else ""
    other_states = "".join(f"; {name}: {state.value}" for name, state in row.other_states)
    return (
        entry.name,
        entry.patient,
        entry.date,
        " ".join(entry.sequences),
        f"{arm}{row.state.value}{other_states}",
        "" if entry.highest is None else score_digits(entry.highest),
        "" if entry.candidates is None else str(entry.candidates),
    )


def _warnings(rows: Sequence[WorklistRow]) -> list[str]:
    """Return a line for each study with warnings; in the table they left no room for the rest."""
    warnings = {row.entry.name: row.entry.warnings for row in rows if row.entry.warnings}
    return [
        plain(f"{name}: {textwrap.shorten('; '.join(those), 120, placeholder=' …')}")
        for name, those in warnings.items()
    ]


def _row(row: WorklistRow) -> dict[str, object]:
    other_states = {name: state.value for name, state in row.other_states}
    state_fields: dict[str, object] = {"state": row.state.value, "others": other_states}
    if row.session:
        state_fields |= {"session": row.session, "arm": row.arm.value}
    entry = asdict(row.entry)
    del entry["analysis_warnings"]  # they are among the warnings
    return entry | state_fields


def ahead(
    folder: List,
    while_open: Annotated[
        bool,
        typer.Option("--while-open", help="Stop when standard input is closed (for programs)."),
    ] = False,
    engine_choice: Engine = DEFAULT_ENGINE,
) -> CommandOutput:
    """Analyse the studies of a list in advance, the next ones first.

    Each result is written to LIST/NAME as by `lesionlens batch`. A study that fails is recorded and
    does not stop the others; Ctrl-C keeps finished results.
    """
    from lesionlens.site.cohort.run import CohortRun
    from lesionlens.site.cohort.work import CohortChoice
    from lesionlens.site.database.records import Status
    from lesionlens.site.database.worklist_database import existing_worklist_database
    from lesionlens.site.worklist.background_analysis import lower_priority, run_ahead

    choice = CohortChoice(engine_choice)
    STOP.record_only()
    lower_priority()
    if while_open:
        threading.Thread(target=_until_end_of_input, daemon=True).start()
    with existing_worklist_database(folder) as database, progress_bar() as context:
        outcomes = run_ahead(database, choice, context=context)
    interrupted = STOP.is_set()
    lines = tuple(f"{plain(o.name)}: {plain(o.message)}" for o in outcomes)
    count = sum(o.status is Status.ANALYSED for o in outcomes)
    notes = ("interrupted; finished results are kept",) if interrupted else ()
    exit_status = CohortRun(outcomes, 0).exit_status
    return CommandOutput(
        (*lines, f"{counted(count, 'study', 'studies')} analysed"),
        notes,
        130 if interrupted else exit_status,
    )


def _until_end_of_input() -> None:
    """Wait until standard input is closed by the parent process.

    Unbuffered: Python aborts at exit if a thread still waits in a buffered read.
    """
    while os.read(sys.stdin.fileno(), 4096):
        pass
    STOP.set()
