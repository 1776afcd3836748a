"""`lesionlens reader-study plan|table`: reading order, arms and tables of a reader study."""

from __future__ import annotations

from lesionlens.base.errors import ReadError
from lesionlens.base.text import counted
from lesionlens.cli import options
from lesionlens.cli.console import CommandOutput, new_table, plain
from lesionlens.cli.worklist import List


def plan(folder: List, json: options.Json = False) -> CommandOutput:
    """Show the reading order and arms of each reader in LIST/protocol.toml."""
    from lesionlens.site.database.worklist_database import existing_worklist_database
    from lesionlens.site.worklist.protocol import FILE, assignments, check_unchanged, read_protocol
    from lesionlens.site.worklist.table import key_columns

    with existing_worklist_database(folder, reading=True) as database:
        protocol = read_protocol(folder)
        if protocol is None:
            raise ReadError(
                f"There is no {FILE} in {folder.name!r}.",
                hint="Write the protocol of the reader study; see docs/how-to/reading.md.",
            )
        cases = tuple(entry.name for entry in database.entries())
        check_unchanged(protocol, cases, database.reads())
    planned_reads = [
        read for reader in protocol.readers for read in assignments(protocol, reader, cases)
    ]
    if json:
        return CommandOutput.of_json([key_columns(read) for read in planned_reads])
    table = new_table(("reader", "case", "arm", "session"), text_columns=3)
    for read in planned_reads:
        table.add_row(plain(read.reader), plain(read.study), read.arm.value, str(read.session))
    return CommandOutput((table, counted(len(planned_reads), "read")))


def table(folder: List, out: options.Out) -> CommandOutput:
    """Write reads.csv (one row per read) and marks.csv (one row per mark, for FROC) of a list.

    Without LIST/protocol.toml, the reads of an ordinary worklist are written.
    """
    from lesionlens.site.worklist.table import tables_of

    tables = tables_of(folder, out)
    return CommandOutput((tables.progress_text, plain(str(tables.reads)), plain(str(tables.marks))))
