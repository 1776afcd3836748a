"""The user's own log of reads that belong to no worklist.

A reader's decisions on an analysis are shown again wherever it is opened: this log records the
folder that stored them last.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import chain
from pathlib import Path

from lesionlens.base.errors import LesionLensError
from lesionlens.base.files import user_data
from lesionlens.base.labels import Phase, ReviewAct, ReviewState
from lesionlens.base.records.analysis import Analysis, RunInfo
from lesionlens.base.records.findings import Point
from lesionlens.base.records.followup import compared_uids, own_uids
from lesionlens.base.records.review import WHOLE_STUDY, Review, ReviewEvent
from lesionlens.base.records.study import Study
from lesionlens.imaging.reading.input_files import study_key
from lesionlens.results.review import store
from lesionlens.results.review.log import now
from lesionlens.site.database.reads import as_stored
from lesionlens.site.database.records import Read, ReadKey
from lesionlens.site.database.worklist_database import (
    WorklistDatabase,
    is_worklist_folder,
    open_worklist_database,
)

logger = logging.getLogger(__name__)


def own_folder() -> Path:
    """Return the folder of the log."""
    return user_data() / "reading"


def read_key_of_study(study: Study, reader: str) -> ReadKey:
    """Return the key of a read of a study opened without a worklist."""
    return ReadKey(hashlib.sha256(_identity(study).encode()).hexdigest()[:32], reader)


def _identity(study: Study) -> str:
    """Return an identifier of a study: its UID, or else the digest of its images.

    The folder does not identify it: it may contain another patient's images the next day.
    """
    try:
        return study.uid or _digest(study)
    except (OSError, LesionLensError):  # a file is gone by now, or not reached at the moment
        return str(study.root.resolve())


_digest = lru_cache(maxsize=8)(study_key)


def with_own_uids(analysis: Analysis, review: Review) -> Review:
    """Return a review under the result's own tracking UIDs, as logs hold it."""
    return review.renamed(own_uids(analysis.followup))


def centroids(analysis: Analysis) -> dict[str, Point]:
    """Return the centroid of each candidate, RAS+ mm, by the result's own tracking UID."""
    own_uid_of = own_uids(analysis.followup)
    candidates = analysis.findings.candidates
    return {
        own_uid_of.get(candidate.tracking_uid, candidate.tracking_uid): candidate.centroid_mm
        for candidate in candidates
    }


@dataclass(frozen=True, slots=True)
class Recovered:
    """A reader's decisions on an analysis, from its review and from the logs."""

    review: Review
    """The review to show; empty if there is none."""
    conflicting: Review = field(default_factory=Review)
    """Reviews in the log that conflict with the shown one."""
    logged: frozenset[object] = frozenset()
    """All decisions and signed responses in the logs."""


def recover_review(analysis: Analysis, key: ReadKey, folder: Path) -> Recovered:
    """Return the decisions of a reader on the same input and weights.

    The analysis's own review is used unless a log continues it. A read of a reader study uses its
    own decisions only. Decisions on candidates that this analysis does not have are ignored.

    Parameters
    ----------
    folder : Path
        Folder of its log: a list's, or `own_folder`.
    """
    to_own, to_compared = own_uids(analysis.followup), compared_uids(analysis.followup)
    saved = Review() if key.session else analysis.review.renamed(to_own)
    reviews = _applicable_reviews(analysis, key, folder)
    nonempty = [review for review in reviews if review.events or review.responses]
    newest = nonempty[0] if nonempty else Review()
    newer = next((review for review in nonempty if review.continues(saved)), None)
    if newer is not None:
        shown, other = newer.with_signed(saved), Review()
    elif saved.continues(newest):
        shown, other = saved.with_signed(newest), Review()
    else:
        shown, other = saved, newest
    return Recovered(
        shown.renamed(to_compared), other.renamed(to_compared), _all_decisions(nonempty)
    )


def logged_decisions(analysis: Analysis, key: ReadKey, folder: Path) -> frozenset[object]:
    """Return all decisions and signed responses in the logs; parameters as for `recover_review`."""
    return _all_decisions(_applicable_reviews(analysis, key, folder))


def logged_signature(analysis: Analysis, key: ReadKey, folder: Path) -> frozenset[object]:
    """Return the valid signature in the logs, or none; parameters as for `recover_review`."""
    reviews = _applicable_reviews(analysis, key, folder)
    newest = next((review for review in reviews if review.events), Review())
    return frozenset(newest.events[-1:] if newest.signed is not None else ())


def lacks_decisions(shown: Review, analysis: Analysis, decisions: frozenset[object]) -> bool:
    """Return whether a shown review of an analysis lacks some of the decisions in a log."""
    review = with_own_uids(analysis, shown)
    return bool(decisions - {*map(as_stored, review.events), *review.responses})


def _applicable_reviews(analysis: Analysis, key: ReadKey, folder: Path) -> list[Review]:
    """Return the logged reviews without decisions on candidates that this analysis lacks."""
    candidate_uids = centroids(analysis).keys()
    reviews = _reviews_by_recency(analysis.run, key, folder)
    return [review.restricted_to(candidate_uids) for review in reviews]


def _all_decisions(reviews: Iterable[Review]) -> frozenset[object]:
    return frozenset(chain.from_iterable((*review.events, *review.responses) for review in reviews))


def save_conflicting(
    analysis: Analysis, other: Review, shown: str = "The decisions saved with this result"
) -> str:
    """Write conflicting decisions to a folder of the user; return a notice with its path.

    Parameters
    ----------
    shown : str
        What the notice calls the decisions that are shown.
    """
    timestamp = re.sub(r"\W+", "-", other.events[-1].time)
    folder = own_folder() / "set_aside" / f"{store.analysis_key(analysis.run)}-{timestamp}"
    subject = f"{shown} are shown; your other decisions on this result"
    try:
        store.save(replace(analysis, review=other), folder)
    except LesionLensError as error:
        return f"{subject} could not be saved: {error.found}."
    return f"{subject} are saved in {folder}."


def _reviews_by_recency(run: RunInfo, key: ReadKey, folder: Path) -> list[Review]:
    """Return a reader's decisions in the logs, most recent first."""
    name = store.analysis_key(run)
    logs, folders = [], [folder]
    if not key.session:
        with _damaged_log_skipped():
            folders = [*_last_folders(name, key.reader), folder]
    for path in dict.fromkeys(map(Path.resolve, folders)):
        with _damaged_log_skipped():
            logs.append(_reviews_in(path, name))
    return [
        review
        for log in logs
        for logged_key, key_reviews in reversed(log)
        if _shares_decisions(logged_key, key)
        for review in key_reviews[::-1]
    ]


@contextmanager
def _damaged_log_skipped() -> Iterator[None]:
    try:
        yield
    except LesionLensError as error:
        logger.warning("The log of your decisions is not used: %s", error.found)


def record_last_folder(analysis: str, reader: str, folder: Path) -> None:
    """Record in the own log that decisions were last stored in a list's folder."""
    with closing(open_worklist_database(own_folder())) as database:
        database.write_note(_note_key(analysis, reader), str(folder.resolve()))


def _last_folders(analysis: str, reader: str) -> tuple[Path, ...]:
    log_folder = own_folder()
    if not is_worklist_folder(log_folder):
        return ()
    with closing(open_worklist_database(log_folder)) as database:
        path = database.read_note(_note_key(analysis, reader))
    return (Path(path),) if isinstance(path, str) else ()


def _note_key(analysis: str, reader: str) -> str:
    return f"kept last: {analysis} {reader}"


def _reviews_in(folder: Path, analysis: str) -> list[tuple[ReadKey, tuple[Review, ...]]]:
    """Return the reviews of each read, most recent last."""
    if not is_worklist_folder(folder):
        return []
    with closing(open_worklist_database(folder, reading=True)) as database:
        return list(database.reviews(analysis).items())


def _shares_decisions(logged_key: ReadKey, key: ReadKey) -> bool:
    """Return whether the decisions of a logged read apply to the read of a key.

    Outside reader studies all reads of one reader share decisions. In a reader study each case is
    a separate read, even if two cases have the same images.
    """
    if key.session:
        return logged_key == key
    return (logged_key.reader, logged_key.session) == (key.reader, 0)


def _first_aided_day(reads: Iterable[Read]) -> str | None:
    """Return the day of the first act for which the analysis was visible; None without one.

    Decisions that a read took over do not count: they have the times at which they were made, by
    any reader, or none.
    """
    aided_times = [
        act.time
        for read in reads
        for act in read.acts
        if act.phase is Phase.AIDED and act.time >= read.begun
    ]
    return min(aided_times)[:10] if aided_times else None


class ReaderLog:
    """The database in the user's folder, opened on first use and reopened if it was removed.

    It also records which readers were shown the analysis of a study, in a list or outside one, so
    that a later unaided read can state it.
    """

    def __init__(self) -> None:
        self._database: WorklistDatabase | None = None

    @property
    def database(self) -> WorklistDatabase:
        """The database."""
        if self._database is not None and self._database.is_missing:
            self._database.close()
            self._database = None
        if self._database is None:
            self._database = open_worklist_database(own_folder())
        return self._database

    def record_shown(self, study: Study, key: ReadKey) -> None:
        """Record, once per reader, that the analysis of a study is shown."""
        study_key = replace(key, study=read_key_of_study(study, key.reader).study)
        try:
            if _first_aided_day((self.database.read(study_key),)) is None:
                event = ReviewEvent(
                    WHOLE_STUDY,
                    ReviewState.UNREVIEWED,
                    reader=key.reader or None,
                    time=now(),
                    act=ReviewAct.BEGIN,
                )
                self.database.add_acts(study_key, [event])
        except LesionLensError as error:
            logger.warning("It could not be recorded that the analysis was shown: %s", error.found)

    def shown_before(self, study: Study, key: ReadKey) -> str | None:
        """Return the day (UTC) when the analysis was first shown to a read's reader, or None.

        An unnamed reader may be any other one. A session of a reader study disregards its other
        sessions, in which the protocol shows the analysis.
        """
        try:
            reads = self.database.reads(read_key_of_study(study, key.reader).study)
        except LesionLensError as error:
            logger.warning("Whether the analysis was shown before is unknown: %s", error.found)
            return None
        return _first_aided_day(
            read
            for read in reads
            if (not key.reader or read.key.reader in ("", key.reader))
            and not (key.session and read.key.session)
        )

    def close(self) -> None:
        """Close the file."""
        if self._database is not None:
            self._database.close()
