"""Tables of a reader study: one row per read, one row per mark, for a FROC analysis."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lesionlens.base.errors import ReadError
from lesionlens.base.files.bounded_read import read_json, read_object
from lesionlens.base.files.manifest import write_listed
from lesionlens.base.files.staging import check_target
from lesionlens.base.labels import Phase, ReviewState
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.results.export.cells import csv_text, safe_text
from lesionlens.results.export.followup import FILE as COMPARISON
from lesionlens.site.database.describing import RESULT
from lesionlens.site.database.records import Read
from lesionlens.site.database.worklist_database import existing_worklist_database
from lesionlens.site.worklist.protocol import read_protocol

READS, MARKS = "reads.csv", "marks.csv"
LIST = "reads.files.json"
_STAGE = "read the results"
_WHO = ("reader", "session", "case", "arm")
READ_COLUMNS = (
    *_WHO, "complete", "signed_unaided", "signed", "marks_unaided", "marks_aided", "accepted",
    "rejected", "deferred", "edited", "seconds_unaided", "seconds_aided", "seconds", "begun",
)  # fmt: skip
MARK_COLUMNS = (
    *_WHO, "phase", "kind", "id", "x_mm", "y_mm", "z_mm", "rating", "verdict", "score", "reason",
)  # fmt: skip
_LESION = (ReviewState.ACCEPTED, ReviewState.EDITED)


@dataclass(frozen=True, slots=True)
class WrittenTables:
    """The two tables of a list, with the number of complete reads."""

    reads: Path
    """One row per read."""
    marks: Path
    """One row per mark or decided candidate."""
    begun: int
    """Number of reads."""
    complete: tuple[tuple[str, int], ...]
    """Number of complete reads, by arm."""

    @property
    def progress_text(self) -> str:
        """The progress in words.

        Examples
        --------
        >>> WrittenTables(Path("r"), Path("m"), 3, (("unaided", 2),)).progress_text
        '2 of 3 reads complete: 2 unaided'
        """
        arms = ", ".join(f"{count} {arm}" for arm, count in self.complete)
        done = sum(count for _, count in self.complete)
        return f"{done} of {self.begun} reads complete" + (f": {arms}" * bool(arms))


def tables_of(folder: Path, out: Path, *, context: RunContext = SILENT) -> WrittenTables:
    """Write the tables of a list: of its reader study, or of its plain reads.

    Raises
    ------
    LesionLensError
        There is no list, its protocol cannot be read, or `out` is not a folder; the subclass
        `CancelledError` if it was cancelled, and nothing is written.
    """
    check_target(out)
    with existing_worklist_database(folder, reading=True) as database:
        study = read_protocol(folder) is not None
        reads = [read for read in database.reads() if bool(read.key.session) is study]
        scores = scores_in(folder, [entry.name for entry in database.entries()], context)
    context.check(_STAGE)
    written = write_tables(reads, scores, out)
    arms = Counter(read.key.arm.value for read in reads if read.complete)
    return WrittenTables(*written, len(reads), tuple(arms.items()))


def write_tables(
    reads: Iterable[Read], scores: Mapping[tuple[str, str], float], out: Path
) -> tuple[Path, Path]:
    """Write `reads.csv` and `marks.csv`, each atomically.

    In `marks.csv` each row is a position with its rating (0 to 100): kind `mark` was marked by the
    reader, kind `candidate` is one of the network's, with the verdict; a rejected or deferred
    candidate has no rating and is no FROC mark. Complete reads without a row are in `reads.csv`.

    Parameters
    ----------
    scores : mapping of (str, str) to float
        Known scores of the network, by study and tracking UID.
    out : Path
        Output folder, created if missing.
    """
    done = sorted(reads, key=lambda r: (r.key.reader, r.key.session, r.begun, r.key.study))
    rows = [_read_row(read) for read in done]
    marks = [row for read in done for row in _mark_rows(read, scores)]
    contents = {READS: _text(READ_COLUMNS, rows), MARKS: _text(MARK_COLUMNS, marks)}
    reads_csv, marks_csv = write_listed(out, contents, LIST)
    return reads_csv, marks_csv


def scores_in(
    folder: Path, names: Sequence[str], context: RunContext = SILENT
) -> dict[tuple[str, str], float]:
    """Return the network's scores by study and tracking UID, of the results of a list.

    A lesion that was matched with the prior's has its tracking UID in the file; a read has that of
    the examination itself.
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
        own = compared if isinstance(compared, dict) else {}
        scores |= {
            (name, own.get(uid, uid)): float(score) for uid, score in rows if score is not None
        }
    return scores


def _who(read: Read) -> dict[str, str | int]:
    key = read.key
    return {
        "reader": safe_text(key.reader),
        "session": key.session,
        "case": safe_text(key.study),
        "arm": key.arm.value,
    }


def _read_row(read: Read) -> dict[str, str | int | float]:
    states = [verdict.state for verdict in read.verdicts]
    return {
        **_who(read),
        "complete": str(read.complete).lower(),
        "signed_unaided": safe_text(read.unaided or ""),
        "signed": safe_text(read.signed or ""),
        "marks_unaided": len(read.marks_of(Phase.UNAIDED)),
        "marks_aided": len(read.marks_of(Phase.AIDED)),
        **{s.value: states.count(s) for s in ReviewState if s is not ReviewState.UNREVIEWED},
        "seconds_unaided": round(read.unaided_seconds, 1),
        "seconds_aided": round(read.aided_seconds, 1),
        "seconds": round(read.unaided_seconds + read.aided_seconds, 1),
        "begun": read.begun,
    }


def _mark_rows(
    read: Read, scores: Mapping[tuple[str, str], float]
) -> list[dict[str, str | int | float]]:
    rows: list[dict[str, str | int | float]] = []
    for mark in read.marks:
        rating = "" if mark.confidence is None else mark.confidence
        about = {"phase": mark.phase.value, "kind": "mark", "id": mark.uid, "rating": rating}
        rows.append({**_who(read), **about, **_at(mark.at_mm)})
    for verdict in read.verdicts:
        known = verdict.confidence is not None and verdict.state in _LESION
        rows.append(
            {
                **_who(read),
                "phase": Phase.AIDED.value,
                "kind": "candidate",
                "id": verdict.tracking_uid,
                "rating": verdict.confidence if known and verdict.confidence is not None else "",
                "verdict": verdict.state.value,
                "score": scores.get((read.key.study, verdict.tracking_uid), ""),
                "reason": safe_text(verdict.reason or ""),
                **_at(verdict.at_mm),
            }
        )
    return rows


def _at(point: tuple[float, float, float] | None) -> dict[str, float]:
    names = ("x_mm", "y_mm", "z_mm")
    return {} if point is None else {n: round(v, 2) for n, v in zip(names, point, strict=True)}


def _text(columns: tuple[str, ...], rows: list[dict[str, str | int | float]]) -> str:
    return csv_text(columns, ([row.get(name, "") for name in columns] for row in rows))
