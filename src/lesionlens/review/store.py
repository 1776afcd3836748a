"""review.json: the log beside findings.json, and the autosave that survives a crash.

Every write goes to a new file that takes the old one's place in one step, so that a power cut
leaves the last complete state. While a study has no result folder yet, acts are kept in the user's
own data folder, by what was analysed; nothing is written into or beside the study.
"""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

import platformdirs
from pydantic import ValidationError

from lesionlens.base.errors import ReadError, ResourceError
from lesionlens.records.analysis import Analysis
from lesionlens.records.files import EventRow, ReviewFile, SpokenOf
from lesionlens.records.review import Review, ReviewEvent

logger = logging.getLogger(__name__)

NAME = "review.json"


def review_file(analysis: Analysis) -> ReviewFile:
    """Build review.json's content from an analysis and what was said of it."""
    return ReviewFile(
        study_uid=analysis.study.uid,
        candidates=tuple(
            SpokenOf(
                id=c.id,
                tracking_uid=c.tracking_uid,
                place=c.location.words,
                centroid_mm=c.centroid_mm,
                volume_ml=next(iter(c.volume_ml.values()), None),
            )
            for c in analysis.findings.candidates
        ),
        events=tuple(
            EventRow(
                tracking_uid=e.tracking_uid,
                state=e.state,
                reader=e.reader,
                time=e.time,
                reason=e.reason,
                act=e.act,
            )
            for e in analysis.review.events
        ),
    )


def save(analysis: Analysis, folder: Path) -> Path:
    """Write review.json into a result folder, in one step.

    Raises
    ------
    ResourceError
        The folder cannot be written; the earlier file is as it was.
    """
    return _write(folder / NAME, review_file(analysis))


def load(folder: Path) -> Review:
    """Read the review of a result folder; an empty one where nobody has reviewed it.

    Raises
    ------
    ReadError
        review.json is not one of ours, or damaged.
    """
    return _read(folder / NAME)


def session_key(analysis: Analysis) -> str:
    """Return what an autosave is found by: the digest of the input files and of the weights."""
    digest = hashlib.sha256()
    for _, sha256 in sorted(analysis.run.inputs):
        digest.update(sha256.encode())
    engine = analysis.run.engine
    digest.update(f"{engine.name} {engine.version} {engine.weights_sha256}".encode())
    return digest.hexdigest()[:32]


def sessions_folder() -> Path:
    """Return the user's own folder of autosaved reviews."""
    return Path(platformdirs.user_data_dir("lesionlens", appauthor=False)) / "reviews"


def autosave(analysis: Analysis, folder: Path | None = None) -> Path:
    """Keep the acts up to now in the user's data folder.

    Parameters
    ----------
    analysis : Analysis
        With its review.
    folder : Path, optional
        Instead of the user's own.

    Raises
    ------
    ResourceError
        The folder cannot be written.
    """
    place = (folder or sessions_folder()) / f"{session_key(analysis)}.json"
    return _write(place, review_file(analysis))


def recover(analysis: Analysis, folder: Path | None = None) -> Review:
    """Return the autosaved review of the same input and weights; empty where there is none.

    Events of candidates that this analysis does not have are left where they are, unread.
    """
    place = (folder or sessions_folder()) / f"{session_key(analysis)}.json"
    try:
        found = _read(place)
    except ReadError as error:
        logger.warning("The autosaved review is not used: %s", error.found)
        return Review()
    known = {c.tracking_uid for c in analysis.findings.candidates}
    return Review(tuple(e for e in found.events if e.tracking_uid in known))


def _write(place: Path, content: ReviewFile) -> Path:
    text = content.model_dump_json(by_alias=True, indent=1) + "\n"
    aside = place.with_name(f".{place.name}.new")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(place)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise ResourceError(
            found=f"that the review cannot be saved ({error.strerror or error})",
            expected=f"room and permission to write {place.name}",
            next_step="Free some space or export to another folder; nothing was lost yet",
        ) from error
    return place


def _read(place: Path) -> Review:
    try:
        text = place.read_text(encoding="utf-8")
        content = ReviewFile.model_validate_json(text)
    except FileNotFoundError:
        return Review()
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise ReadError(
            found=f"a {place.name} that cannot be read as a review",
            expected="the file that LesionLens wrote",
            next_step=f"Move {place.name} away and review again, or restore it from a backup",
        ) from error
    return Review(
        tuple(
            ReviewEvent(e.tracking_uid, e.state, e.reader, e.time, e.reason, e.act)
            for e in content.events
        )
    )


class ReviewExporter:
    """Writes review.json with a result, empty where nobody has reviewed it yet."""

    name = "review"

    def missing(self, analysis: Analysis) -> str | None:
        """Nothing is needed."""
        del analysis
        return None

    def write(self, analysis: Analysis, staged: Path) -> tuple[Path, ...]:
        """Write the log."""
        return (save(analysis, staged),)
