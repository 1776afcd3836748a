"""Model of the worklist dock, without Qt: rows for a reader, filter, position."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lesionlens.base.errors import LesionLensError, ReadError
from lesionlens.napari.model.state.holder import ScreenHolder
from lesionlens.napari.model.state.state import Activity, Problem
from lesionlens.site.database.records import ReadKey, StudyState, WorklistRow
from lesionlens.site.database.worklist_database import WorklistDatabase, open_worklist_database
from lesionlens.site.worklist.background_analysis import CURSOR, UNDER_WAY
from lesionlens.site.worklist.protocol import ReadingProtocol, read_protocol
from lesionlens.site.worklist.rows import locked_until, matching, rows_of


@dataclass(frozen=True, slots=True)
class WorklistScreen:
    """Content of the worklist dock; frozen."""

    folder: Path | None = None
    title: str = ""
    rows: tuple[WorklistRow, ...] = ()
    filter_text: str = ""
    current: tuple[str, int] | None = None
    """`WorklistRow.key` of the open study."""
    opening: tuple[str, int] | None = None
    """`WorklistRow.key` of the study being opened."""
    last_opened: tuple[str, int] | None = None
    """`WorklistRow.key` of the study that this reader opened last."""
    under_way: str | None = None
    """Name of the study being analysed ahead."""
    ahead: bool = False
    activity: Activity | None = None
    problem: Problem | None = None
    message: str = ""
    unreadable: str = ""
    """Why the list cannot be read now."""
    unwritable: str = ""
    """Why the list cannot be written now."""

    @property
    def focus(self) -> tuple[str, int] | None:
        """`WorklistRow.key` of the highlighted row: the study being opened, else the open one."""
        return self.opening or self.current

    @property
    def summary(self) -> str:
        """The running job, the last message and the counts, in one line."""
        running = "" if self.activity is None else f"{self.activity.name}: {self.activity.stage}"
        ahead = f"analysing {self.under_way or '…'}" if self.ahead else ""
        counts = "" if self.folder is None else self._counts
        obstacles = (self.unreadable, self.unwritable)
        return " · ".join(filter(None, (running, *obstacles, self.message, counts, ahead)))

    @property
    def failure(self) -> str:
        """The problem in one paragraph; empty without one."""
        problem = self.problem
        if problem is None:
            return ""
        return ". ".join(filter(None, (problem.title, problem.sentence[:-1], problem.next_step)))

    @property
    def _counts(self) -> str:
        """Number of displayed, signed and unanalysed studies."""
        signed = sum(row.state is StudyState.SIGNED for row in self.rows)
        waiting = sum(not row.analysed for row in self.rows)
        parts = [f"{len(self.rows)} shown", f"{signed} signed"]
        if waiting:
            parts.append(f"{waiting} not analysed yet")
        return " · ".join(parts)


class WorklistSession(ScreenHolder):
    """The open list; every change replaces the state and emits its screen."""

    def __init__(self) -> None:
        self.state: WorklistScreen = WorklistScreen()
        self.database: WorklistDatabase | None = None
        self.protocol: ReadingProtocol | None = None
        self.reader, self.unaided_first = "", False
        self._all_rows: tuple[WorklistRow, ...] = ()
        self._version: tuple[int, int] | None = None
        self._unwritten: dict[str, object] = {}
        """Notes that could not be stored, by their names."""
        self.on_leave: Callable[[], bool] = lambda: False
        """Set by the window: called before a list is closed, while it is still writable.

        Returns whether the window closes its database later, once an outline is kept in it.
        """

    # --- the list -------------------------------------------------------------------------

    def open(self, folder: Path, reader: str, *, unaided_first: bool) -> None:
        """Open a list for a reader; one that was open for another reader is left first.

        Raises
        ------
        LesionLensError
            The list cannot be read, or the reader is not in its protocol; the open list is kept.
        """
        protocol = read_protocol(folder)
        is_same = (folder, reader) == (self.state.folder, self.reader)
        already_open = self.database if is_same else None
        database = already_open or open_worklist_database(folder)
        try:
            rows = rows_of(database, reader, protocol, unaided_first=unaided_first)
        except LesionLensError:
            if already_open is None:
                database.close()
            raise
        if already_open is None:
            self.close()
        self.database, self.protocol, self._all_rows = database, protocol, rows
        self.reader, self.unaided_first = reader, unaided_first
        self._version = database.version
        title = folder.name if protocol is None else f"{protocol.title} (reader study)"
        self._set(
            folder=folder,
            title=title,
            rows=matching(rows, self.state.filter_text),
            current=None if already_open is None else self.state.current,
            opening=None,
            last_opened=self._last_opened(),
            under_way=database.read_note(UNDER_WAY),
            problem=None,
            message="",
        )

    def _last_opened(self) -> tuple[str, int] | None:
        """Return the row that this reader opened last, also before a crash."""
        stored_key = (
            None if self.database is None else self.database.read_note(_position_note(self.reader))
        )
        return next((row.key for row in self._all_rows if list(row.key) == stored_key), None)

    def close(self) -> None:
        """Close the list."""
        if self.database is not None and not self.on_leave():
            self.database.close()
        self.database = None
        self._unwritten.clear()

    def refresh(self, *, always: bool = False) -> None:
        """Read changes by this or another process."""
        if self.database is None:
            return
        try:
            version = self.database.version
            if version == self._version and not always:
                return
            self._all_rows = rows_of(
                self.database, self.reader, self.protocol, unaided_first=self.unaided_first
            )
            under_way = self.database.read_note(UNDER_WAY)
        except LesionLensError as error:
            self._version = None  # read again with the next poll
            self._set(unreadable=f"The list cannot be read now: {error}")
            return
        self._version = version
        self._set(
            rows=matching(self._all_rows, self.state.filter_text),
            under_way=under_way,
            unreadable="",
        )
        if self._unwritten:  # the list changed, so that it can probably be written again
            self._write_again(self.database)

    def _write_again(self, database: WorklistDatabase) -> None:
        """Store the notes that could not be stored; another failure is no change of the list."""
        for name, value in tuple(self._unwritten.items()):
            self._write_note(database, name, value)
        if self._version is not None:
            self._version = self._version[0], database.version[1]

    def name_reader(self, reader: str) -> None:
        """Set the reader's name if the list was opened without one."""
        if not self.reader:
            self.reader = reader
            self.refresh(always=True)

    def read_as(self, reader: str, *, unaided_first: bool) -> None:
        """Apply the preferences' reader and reading mode; a reader study keeps its reader."""
        settings = (
            self.reader if self.protocol is not None or not reader else reader,
            unaided_first,
        )
        if self.database is not None and settings != (self.reader, self.unaided_first):
            self.reader, self.unaided_first = settings
            last_opened = None
            with suppress(LesionLensError):  # then the reader begins with the first study
                last_opened = self._last_opened()
            self._set(last_opened=last_opened)
            self.refresh(always=True)

    def filter(self, text: str) -> None:
        """Show the rows that contain these words."""
        self._set(filter_text=text, rows=matching(self._all_rows, text))

    # --- position -------------------------------------------------------------------------

    def row(self, key: tuple[str, int] | None) -> WorklistRow | None:
        """Return a row by its key, shown or not."""
        return next((row for row in self._all_rows if row.key == key), None)

    def neighbour(self, by: int, key: tuple[str, int] | None = None) -> WorklistRow | None:
        """Return the displayed row that is a number of rows further on; None at the end.

        Counted from the open study, or from another row by its key; if none is open, the row that
        was opened last.
        """
        keys = [row.key for row in self.state.rows]
        start = key or self.state.current
        if not keys:
            return None
        if start not in keys:
            last_opened, edge = self.state.last_opened, 0 if by > 0 else -1
            return self.state.rows[keys.index(last_opened) if last_opened in keys else edge]
        index = keys.index(start) + by
        return self.state.rows[index] if 0 <= index < len(keys) else None

    def set_opening_row(self, row: WorklistRow | None) -> None:
        """Set the row being opened; None when it is open or was cancelled."""
        self._set(opening=None if row is None else row.key)

    def set_open_row(self, row: WorklistRow | None) -> None:
        """Set the row of the open study; None if it is not of the list."""
        if row is not None and self.database is not None:
            self._write_note(self.database, _position_note(self.reader), row.key)
            self._set(current=row.key, last_opened=row.key)
        else:
            self._set(current=None)

    def analyse_from(self, row: WorklistRow) -> None:
        """Continue the analysis ahead from a row."""
        if self.database is not None:
            self._write_note(self.database, CURSOR, row.entry.name)

    def _write_note(self, database: WorklistDatabase, name: str, value: object) -> None:
        """Store a note in the list; a failure is only reported, as the study opens without it."""
        try:
            database.write_note(name, value)
        except LesionLensError as error:
            self._unwritten[name] = value
            self._set(unwritable=f"The list cannot be written now: {error}")
        else:
            self._unwritten.pop(name, None)
            if not self._unwritten:
                self._set(unwritable="")

    def key_of(self, row: WorklistRow) -> ReadKey:
        """Return the key of the read of a row."""
        return ReadKey(row.entry.name, self.reader, row.session, row.arm)

    @property
    def rated(self) -> bool:
        """Whether the protocol requires a rating of every mark."""
        return self.protocol is not None and self.protocol.require_rating

    def check(self, row: WorklistRow) -> None:
        """Refuse a row before the end of its washout, or whose read could not begin.

        Raises
        ------
        ReadError
            The protocol requires more days since another session, or the list is damaged.
        ResourceError
            The list's folder has vanished, or cannot be read: no decision could be stored.
        """
        if self.database is None:
            return
        self.database.check_exists()
        self.database.read(self.key_of(row))
        if self.protocol is None:
            return
        own_reads = [read for read in self.database.reads() if read.key.reader == self.reader]
        until = locked_until(self.protocol, row, own_reads)
        if until is not None:
            raise ReadError(
                f"Session {row.session} begins on {until}, after "
                f"{self.protocol.washout_days} days.",
                hint="Come back then, or continue the session that you have begun.",
            )

    def ahead(self, *, running: bool) -> None:
        """Report whether studies are analysed ahead."""
        state = self.state
        self._set(
            ahead=running,
            under_way=state.under_way if running else None,
            message="" if running else state.message,
        )


def passed_over_text(rows: Iterable[WorklistRow], shown: WorklistRow) -> str:
    """Return which other studies were passed over before they were shown; empty if none."""
    names = ", ".join(dict.fromkeys(row.entry.name for row in rows if row.key != shown.key))
    return f"Passed over, not shown: {names}." if names else ""


def _position_note(reader: str) -> str:
    """Return the name of the note that stores a reader's position."""
    return f"place {reader}".rstrip()
