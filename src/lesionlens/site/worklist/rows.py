"""The worklist as one reader sees it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from lesionlens.site.database.reads import state_of
from lesionlens.site.database.records import Read, ReadKey, StudyEntry, WorklistRow
from lesionlens.site.database.worklist_database import WorklistDatabase, without_findings
from lesionlens.site.worklist.protocol import ReadingProtocol, assignments, check_unchanged


def rows_of(
    database: WorklistDatabase,
    reader: str,
    protocol: ReadingProtocol | None = None,
    *,
    unaided_first: bool = False,
) -> tuple[WorklistRow, ...]:
    """Return the rows of a list for one reader, in reading order.

    The network's findings are hidden where they must not influence the reader: always in a reader
    study, and in unaided-first reading until the reader has signed.

    Parameters
    ----------
    reader : str
        Name of the reader; empty if unnamed.
    protocol : ReadingProtocol or None
        Protocol of a reader study: sets the order, with one row per case and session; other readers
        are not shown.
    unaided_first : bool
        Whether the reader signs an unaided read first.

    Raises
    ------
    ReadError
        The reader is not in the protocol, or it was changed after a reader had begun.
    """
    entries = {entry.name: entry for entry in database.entries()}
    reads = {read.key: read for read in database.reads()}
    if protocol is not None:
        check_unchanged(protocol, tuple(entries), reads.values())
        plan = assignments(protocol, reader, tuple(entries))
        return tuple(_assigned_row(entries[key.study], key, reads) for key in plan)
    other_reads: dict[str, list[Read]] = {}
    for read in reads.values():
        if read.key.reader != reader and not read.key.session:
            other_reads.setdefault(read.key.study, []).append(read)
    rows = []
    for entry in entries.values():
        own_read = reads.get(ReadKey(entry.name, reader))
        analysed = entry.candidates is not None
        is_hidden = unaided_first and (own_read is None or own_read.unaided is None)
        other_states = tuple(
            (read.key.reader or "unnamed", state_of(read, analysed=analysed))
            for read in sorted(other_reads.get(entry.name, []), key=lambda r: r.key.reader)
        )
        visible_entry = without_findings(entry) if is_hidden else entry
        state = state_of(own_read, analysed=analysed)
        rows.append(WorklistRow(visible_entry, state, other_states, analysed=analysed))
    return tuple(rows)


def _assigned_row(entry: StudyEntry, key: ReadKey, reads: dict[ReadKey, Read]) -> WorklistRow:
    analysed = entry.candidates is not None
    state = state_of(reads.get(key), analysed=analysed)
    return WorklistRow(without_findings(entry), state, (), key.session, key.arm, analysed=analysed)


def locked_until(
    protocol: ReadingProtocol, row: WorklistRow, reads: Iterable[Read], now: datetime | None = None
) -> str | None:
    """Return the end of a row's lock between sessions, local time; None if it is not locked.

    It follows all reads of earlier sessions, and those of the same study in later ones.

    Parameters
    ----------
    now : datetime, optional
        Current time; default: the clock's.
    """
    other_reads = [
        read
        for read in reads
        if 0 < read.key.session < row.session
        or (read.key.session > row.session and read.key.study == row.entry.name)
    ]
    act_times = [datetime.fromisoformat(r.acts[-1].time) for r in other_reads if r.acts]
    if not act_times:
        return None
    unlock_time = max(act_times) + timedelta(days=protocol.washout_days)
    if (now or datetime.now(UTC)) >= unlock_time:
        return None
    return f"{unlock_time.astimezone():%Y-%m-%d %H:%M}"


def matching(rows: Sequence[WorklistRow], query: str) -> tuple[WorklistRow, ...]:
    """Return the rows that contain every word of a filter, ignoring case.

    Words are searched in name, patient, date, sequences, state, arm and warnings; a word with a
    leading minus must not occur.

    Examples
    --------
    >>> from lesionlens.site.database.records import StudyState
    >>> row = WorklistRow(StudyEntry("A7", "", "P1", "2026-01-05", ("t1c",)), StudyState.NEW)
    >>> len(matching([row], "p1 NEW")), len(matching([row], "2026 -t1c"))
    (1, 0)
    """
    terms = query.casefold().split()
    return tuple(row for row in rows if _contains_terms(_searchable_text(row), terms))


def _contains_terms(text: str, terms: Sequence[str]) -> bool:
    return all(
        term[1:] not in text if term.startswith("-") and len(term) > 1 else term in text
        for term in terms
    )


def _searchable_text(row: WorklistRow) -> str:
    entry = row.entry
    arm = row.arm.value if row.session else ""
    values = (
        entry.name, entry.patient, entry.date, *entry.sequences, row.state.value, arm,
        *entry.warnings,
    )  # fmt: skip
    return "\n".join(values).casefold()
