"""`lesionlens reader-study plan|table`: reading order, arms and tables of a reader study."""

from __future__ import annotations

from lesionlens.base.errors import ReadError
from lesionlens.cli import options
from lesionlens.cli.console import Answer, new_table, plain
from lesionlens.cli.worklist import List


def plan(folder: List, json: options.Json = False) -> Answer:
    """Show the reading order and arms of each reader in LIST/protocol.toml."""
    from lesionlens.site.database.worklist_database import existing_worklist_database
    from lesionlens.site.worklist.protocol import FILE, assignments, read_protocol

    with existing_worklist_database(folder, reading=True) as database:
        protocol = read_protocol(folder)
        if protocol is None:
            raise ReadError(
                found=f"no {FILE} in {folder.name!r}",
                expected="the protocol of a reader study beside the list",
                next_step="Write one, see docs/how-to/reading.md",
            )
        cases = tuple(entry.name for entry in database.entries())
    plans = [one for reader in protocol.readers for one in assignments(protocol, reader, cases)]
    if json:
        rows = [
            {"reader": one.reader, "session": one.session, "case": one.case, "arm": one.arm.value}
            for one in plans
        ]
        return Answer.of_json(rows)
    table = new_table(("reader", "case", "arm", "session"), words=3)
    for one in plans:
        table.add_row(plain(one.reader), plain(one.case), one.arm.value, str(one.session))
    return Answer((table, f"{len(plans)} reads"))


def table(folder: List, out: options.Out) -> Answer:
    """Write reads.csv (one row per read) and marks.csv (one row per mark, for FROC) of a list.

    Without LIST/protocol.toml, the reads of an ordinary worklist are written.
    """
    from lesionlens.site.worklist.table import tables_of

    written = tables_of(folder, out)
    return Answer((written.progress_text, plain(str(written.reads)), plain(str(written.marks))))
