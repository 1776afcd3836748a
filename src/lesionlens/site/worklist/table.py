"""Tables of a reader study: one row per read, one row per mark, for a FROC analysis."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lesionlens.base.errors import ReadError
from lesionlens.base.files import read_json, read_object
from lesionlens.base.labels import Phase, ReviewState
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.base.storage import check_target, write_listed
from lesionlens.base.text import counted
from lesionlens.results.export.cells import rows_csv
from lesionlens.results.export.followup import FILE as COMPARISON
from lesionlens.site.database.descriptions import RESULT
from lesionlens.site.database.reads import MERGED, verdict_of
from lesionlens.site.database.records import Read, ReadKey
from lesionlens.site.database.worklist_database import existing_worklist_database
from lesionlens.site.worklist.protocol import FILE, read_protocol

READS, MARKS = "reads.csv", "marks.csv"
LIST = "reads.files.json"
_STAGE = "read the results"
_KEY_COLUMNS = ("reader", "session", "case", "arm")
READ_COLUMNS = (
    *_KEY_COLUMNS, "complete", "signed_unaided", "signed", "marks_unaided", "marks_aided",
    "accepted", "rejected", "deferred", "edited", "seconds_unaided", "seconds_aided", "seconds",
    "begun",
)  # fmt: skip
MARK_COLUMNS = (
    *_KEY_COLUMNS, "phase", "kind", "id", "x_mm", "y_mm", "z_mm", "rating", "verdict", "score",
    "reason",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ReaderStudyTables:
    """The two tables of a list, with the number of complete reads."""

    reads: Path
    """One row per read."""
    marks: Path
    """One row per mark or decided candidate."""
    n_reads: int
    """Number of reads; of a reader study those that are planned, begun or not."""
    complete: tuple[tuple[str, int], ...]
    """Number of complete reads, by arm; of a reader study those that are planned."""
    notes: tuple[str, ...] = ()
    """Sentences on reads that the tables omit, and on those that the protocol does not plan."""

    @property
    def progress_text(self) -> str:
        """The progress in words.

        Examples
        --------
        >>> ReaderStudyTables(Path("r"), Path("m"), 3, (("unaided", 2),)).progress_text
        '2 of 3 reads complete: 2 unaided'
        >>> ReaderStudyTables(Path("r"), Path("m"), 0, ()).progress_text
        'No reads'
        """
        arms = ", ".join(f"{count} {arm}" for arm, count in self.complete)
        n_complete = sum(count for _, count in self.complete)
        text = f"{n_complete} of {self.n_reads} reads complete" if self.n_reads else "No reads"
        return ". ".join((f"{text}: {arms}" if arms else text, *self.notes))


def tables_of(folder: Path, out: Path, *, context: RunContext = SILENT) -> ReaderStudyTables:
    """Write the tables of a list: of its reader study, or of its plain reads.

    Raises
    ------
    LesionLensError
        There is no list, its protocol cannot be read, or `out` is not a folder; the subclass
        `CancelledError` if it was cancelled, and nothing is written.
    """
    check_target(out)
    with existing_worklist_database(folder, reading=True) as database:
        protocol, names = read_protocol(folder), [entry.name for entry in database.entries()]
        all_reads = database.reads()
        reads = [r for r in all_reads if bool(r.key.session) is (protocol is not None)]
        scores = network_scores(folder, names, context)
    context.check(_STAGE)
    paths = write_tables(reads, scores, out)
    planned = [read for read in reads if protocol is None or protocol.plans(read.key)]
    arms = Counter(read.key.arm.value for read in planned if read.complete)
    n_reads = len(reads) if protocol is None else protocol.n_reads(len(names))
    notes = []
    if n_omitted := len(all_reads) - len(reads):
        kind = f"of a reader study: {FILE} is missing" if protocol is None else "outside the study"
        notes.append(f"Omitted: {counted(n_omitted, 'read')} {kind}")
    if n_unplanned := len(reads) - len(planned):
        others = f"{counted(n_unplanned, 'read')} of other readers, arms or cases"
        notes.append(f"Not counted, although in the tables: {others}")
    return ReaderStudyTables(*paths, n_reads, tuple(arms.items()), tuple(notes))


def write_tables(
    reads: Iterable[Read], scores: Mapping[tuple[str, str], float], out: Path
) -> tuple[Path, Path]:
    """Write `reads.csv` and `marks.csv`, each atomically.

    In `marks.csv` each row is a position with its rating (0 to 100): kind `mark` was marked by the
    reader, kind `candidate` is one of the network's, with the verdict; one that is rejected,
    deferred or merged into another has no rating and is no FROC mark. Complete reads without a row
    are in `reads.csv`.

    Parameters
    ----------
    scores : mapping of (str, str) to float
        Known scores of the network, by study and tracking UID.
    out : Path
        Output folder, created if missing.
    """
    ordered = sorted(
        reads, key=lambda read: (read.key.reader, read.key.session, read.begun, read.key.study)
    )
    rows = [_read_row(read) for read in ordered]
    marks = [row for read in ordered for row in _mark_rows(read, scores)]
    contents = {READS: rows_csv(READ_COLUMNS, rows), MARKS: rows_csv(MARK_COLUMNS, marks)}
    reads_csv, marks_csv = write_listed(out, contents, LIST)
    return reads_csv, marks_csv


def network_scores(
    folder: Path, names: Sequence[str], context: RunContext = SILENT
) -> dict[tuple[str, str], float]:
    """Return the network's scores by study and tracking UID, of the results of a list.

    A lesion that was matched with a prior's has the prior's tracking UID in the file. The returned
    UIDs, like those of a read, are of the examination itself.
    """
    scores: dict[tuple[str, str], float] = {}
    for index, name in enumerate(names):
        context.check(_STAGE)
        context.progress(_STAGE, index / len(names))
        try:
            fields = read_json(folder / name / RESULT)
            rows = [(row["tracking_uid"], row["score"]) for row in fields["candidates"]]
        except (OSError, ValueError, KeyError, TypeError, ReadError):
            continue  # not analysed, or damaged: the list has a warning
        compared = read_object(folder / name / COMPARISON).get("own_uids")
        own_uids = compared if isinstance(compared, dict) else {}
        scores |= {
            (name, own_uids.get(uid, uid)): float(score) for uid, score in rows if score is not None
        }
    return scores


def key_columns(key: ReadKey) -> dict[str, object]:
    """Return the columns that name a read."""
    return {"reader": key.reader, "session": key.session, "case": key.study, "arm": key.arm.value}


def _read_row(read: Read) -> dict[str, object]:
    verdicts = [verdict_of(act) for act in read.verdicts]
    return {
        **key_columns(read.key),
        "complete": read.complete,
        "signed_unaided": read.unaided,
        "signed": read.signed,
        "marks_unaided": len(read.marks_of(Phase.UNAIDED)),
        "marks_aided": len(read.marks_of(Phase.AIDED)),
        **{s.value: verdicts.count(s) for s in ReviewState if s is not ReviewState.UNREVIEWED},
        "seconds_unaided": round(read.unaided_seconds, 1),
        "seconds_aided": round(read.aided_seconds, 1),
        "seconds": round(read.unaided_seconds + read.aided_seconds, 1),
        "begun": read.begun,
    }


def _mark_rows(read: Read, scores: Mapping[tuple[str, str], float]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for mark in read.marks:
        columns: dict[str, object] = {"phase": mark.phase.value, "kind": "mark", "id": mark.uid}
        columns |= {"rating": mark.confidence, **_position_columns(mark.at_mm)}
        rows.append({**key_columns(read.key), **columns})
    for verdict in read.verdicts:
        is_rated = verdict.state.confirmed and verdict_of(verdict) != MERGED
        rows.append(
            {
                **key_columns(read.key),
                "phase": Phase.AIDED.value,
                "kind": "candidate",
                "id": verdict.tracking_uid,
                "rating": verdict.confidence if is_rated else None,
                "verdict": verdict_of(verdict),
                "score": scores.get((read.key.study, verdict.tracking_uid)),
                "reason": verdict.reason,
                **_position_columns(verdict.at_mm),
            }
        )
    return rows


def _position_columns(point: tuple[float, float, float] | None) -> dict[str, float]:
    names = ("x_mm", "y_mm", "z_mm")
    return {} if point is None else {n: round(v, 2) for n, v in zip(names, point, strict=True)}
