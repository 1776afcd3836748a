"""Import the two databases that earlier releases kept in a folder."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from lesionlens.base.files.databases import database_errors, open_database
from lesionlens.base.labels import Phase, ReviewAct, ReviewState
from lesionlens.base.records.review import WHOLE_STUDY, ReviewEvent
from lesionlens.site.database.reads import ACT

READING, BATCH = "reading.sqlite", "worklist.sqlite"
_VERSION = 1
_ACTS = (
    "SELECT study, reader, session, arm, kind, phase, time, seconds, target, x_mm, y_mm, z_mm, "
    "state, confidence, words FROM acts ORDER BY number"
)
_KINDS = {
    "begin": ReviewAct.BEGIN, "leave": ReviewAct.LEAVE, "mark": ReviewAct.PLACE_MARK,
    "take back": ReviewAct.REMOVE_MARK, "verdict": ReviewAct.DECIDE, "sign": ReviewAct.DECIDE,
    "withdraw": ReviewAct.WITHDRAW,
}  # fmt: skip
_COPIES = (
    (READING, "studies", "studies", "position, name, place, patient, date, sequences, study_uid, "
     "candidates, highest, warnings"),
    (READING, "notes", "notes", "name, value"),
    (BATCH, "studies", "outcomes", "name, fingerprint, status, exit_status, message, seconds, "
     "candidates, engine, peak_memory_mib, finished"),
)  # fmt: skip


def import_earlier_databases(connection: sqlite3.Connection, folder: Path) -> None:
    """Copy the databases of earlier releases; their files are not changed.

    Parameters
    ----------
    connection : sqlite3.Connection
        Connection to the new database, with empty tables, within a transaction.
    folder : Path
        Folder that may contain the earlier databases.

    Raises
    ------
    ReadError
        A database is damaged, or of a version that no release used.
    """
    for name in (READING, BATCH):
        if not os.path.lexists(folder / name):
            continue
        with (
            closing(open_database(folder, name, 10.0, reading=True)) as source,
            database_errors(folder, name),
        ):
            if name == READING and source.execute("PRAGMA user_version").fetchone() != (_VERSION,):
                raise ValueError("its version is not known")
            tables = {row[0] for row in source.execute("SELECT name FROM sqlite_master")}
            for _, table, target, columns in (copy for copy in _COPIES if copy[0] == name):
                if table not in tables:
                    raise ValueError(f"it has no {table}")
                placeholders = ", ".join("?" * (columns.count(",") + 1))
                connection.executemany(
                    f"INSERT INTO {target} ({columns}) VALUES ({placeholders})",  # noqa: S608  constants
                    source.execute(f"SELECT {columns} FROM {table}"),  # noqa: S608  constants
                )
            if name == READING:
                connection.executemany(
                    "INSERT INTO acts (study, reader, session, arm, analysis, act) "
                    "VALUES (?, ?, ?, ?, '', ?)",
                    (_act_row(row) for row in source.execute(_ACTS)),
                )


def _act_row(row: tuple[Any, ...]) -> tuple[Any, ...]:
    *key_values, kind, phase, time, seconds, target, x, y, z, stored_state, confidence, reason = row
    state = ReviewState.ACCEPTED if kind == "sign" else ReviewState(stored_state or "unreviewed")
    act = ReviewEvent(
        target if kind in ("mark", "take back", "verdict") else WHOLE_STUDY,
        state,
        reader=key_values[1] or None,
        time=time,
        reason=reason or None,
        act=_KINDS[kind],
        phase=Phase(phase),
        seconds=seconds,
        at_mm=None if x is None else (x, y, z),
        confidence=confidence,
    )
    return (*key_values, ACT.dump_json(act, by_alias=True).decode())
