"""review.json: the decisions beside findings.json, by which a result that travels goes on.

Outlines that readers drew lie beside it in `review_edits/<sha256>.nii.gz`: NIfTI of the box round
the candidate, uint8 labels at the patient's millimetres, named by content, so that damage is known.

Every write goes to a new file that takes the old one's place in one step, so that a power cut
leaves the last complete state. It is written when a result is saved; until then the log of the read
holds what was decided (`site/database`). Nothing is written into or beside the study.
"""

from __future__ import annotations

import hashlib
import logging
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError

from lesionlens.base import user_folders
from lesionlens.base.atomic_file import atomic_file, write_atomically
from lesionlens.base.bounded_read import read_model
from lesionlens.base.errors import ReadError, ResourceError
from lesionlens.base.grid import Grid
from lesionlens.base.journal import recover
from lesionlens.base.records.analysis import Analysis, RunInfo
from lesionlens.base.records.files import CandidateReference, OutlineRow, ReviewFile
from lesionlens.base.records.review import Outline, Review
from lesionlens.base.scan_limits import check_size
from lesionlens.results.review.log import ReviewLog
from lesionlens.results.review.saved_parts import inputs_sha256

logger = logging.getLogger(__name__)

Check = Callable[[ReviewFile], None]
NAME = "review.json"
EDITS = "review_edits"
_OF_A_READ = {"phase", "seconds", "at_mm", "confidence"}
"""Fields of an act that only the log of a read has."""


def review_file(analysis: Analysis) -> ReviewFile:
    """Build review.json's content from an analysis and its review."""
    return ReviewFile(
        study_uid=analysis.study.uid,
        inputs_sha256=inputs_sha256(analysis.run.inputs),
        candidates=tuple(
            CandidateReference(
                id=c.id,
                tracking_uid=c.tracking_uid,
                place=c.location.words,
                centroid_mm=c.centroid_mm,
                volume_ml=next(iter(c.volume_ml.values()), None),
            )
            for c in analysis.findings.candidates
        ),
        events=analysis.review.events,
        outlines=tuple(
            OutlineRow(sha256=name, tracking_uid=o.tracking_uid, corner=o.corner)
            for name, o in analysis.review.outlines.items()
        ),
        unaided=analysis.review.unaided,
        responses=analysis.review.responses,
    )


def save(analysis: Analysis, folder: Path) -> Path:
    """Write review.json into a result folder, in one step.

    Raises
    ------
    ResourceError
        The folder cannot be written; the earlier file is as it was.
    """
    return _write(folder / NAME, analysis, folder / EDITS)


def change_response(folder: Path, act: Callable[[ReviewLog], None]) -> None:
    """Sign or withdraw the response in the review of a saved result, in one step.

    Raises
    ------
    ReadError
        review.json is damaged.
    ResourceError
        It cannot be written.
    """
    place = folder / NAME
    try:
        content = read_model(place, ReviewFile)
    except (OSError, ValueError) as error:
        raise _unreadable(place) from error
    log = ReviewLog(Review(content.events, responses=content.responses))
    act(log)
    changed = {"events": log.review.events, "responses": log.review.responses}
    added = content.model_copy(update=changed)
    try:
        write_atomically(place, _json(added))
    except OSError as error:
        raise _unwritable(place, error) from error


def load(folder: Path, check: Check | None = None) -> Review:
    """Read the review of a result folder; an empty one if nobody has reviewed it.

    Parameters
    ----------
    folder : Path
        The result.
    check : callable or None
        Raises where the content is not of that result.

    Raises
    ------
    ReadError
        review.json is not one of ours, or damaged.
    """
    recover(folder)
    return _read(folder / NAME, folder / EDITS, check)


def session_key(analysis: Analysis, reader: str | None = None) -> str:
    """Return what a draft is found by: digest of the input files, the weights and the reader.

    Two readers on one machine do not see each other's strokes.
    """
    return _key_of(analysis.run, reader)


def analysis_key(run: RunInfo) -> str:
    """Return what decisions on an analysis are found by: digest of the input and the weights."""
    return _key_of(run, None)


def owner_of(reader: str | None, session: int, arm: str) -> str | None:
    """Name whose drafts are kept together: the reader's, in a reader study of one session.

    What somebody drew in another session or arm is not shown again.
    """
    return f"{reader}, session {session}, {arm}" if session else reader


def _key_of(run: RunInfo, reader: str | None) -> str:
    digest = hashlib.sha256(b"" if reader is None else f"{reader}\0".encode())
    for _, sha256 in sorted(run.inputs):
        digest.update(sha256.encode())
    engine = run.engine
    digest.update(f"{engine.name} {engine.version} {engine.weights_sha256}".encode())
    return digest.hexdigest()[:32]


def sessions_folder() -> Path:
    """Return the user's own folder of drafts, and of reviews that earlier releases autosaved."""
    return user_folders.data() / "reviews"


def autosaved(run: RunInfo, reader: str | None) -> Review:
    """Return what an earlier release autosaved of a reader's decisions; empty if nothing.

    Parameters
    ----------
    run : RunInfo
        Of the analysis.
    reader : str or None
        Whose review, as of `owner_of`.
    """
    own, nobodys = (sessions_folder() / f"{_key_of(run, who)}.json" for who in (reader, None))
    place = own if own.exists() else nobodys  # the first of them kept all readers in one file
    try:
        found = _read(place, place.with_suffix(""))
    except ReadError as error:
        logger.warning("The autosaved review is not used: %s", error.found)
        return Review()
    if place is not own and {e.reader for e in found.events} != {reader}:
        return Review()
    return found


def _write(place: Path, analysis: Analysis, edits: Path) -> Path:
    """Write the outlines, then the log that names them, each in one step."""
    text = _json(review_file(analysis))
    try:
        for outline in analysis.review.outlines.values():
            _write_outline(edits, outline, analysis.volumes.labels.grid)
        with atomic_file(place) as aside:
            aside.write_text(text, encoding="utf-8")
    except OSError as error:
        raise _unwritable(place, error) from error
    return place


def _json(content: ReviewFile) -> str:
    fields = {"events": {"__all__": _OF_A_READ}}
    return content.model_dump_json(by_alias=True, indent=1, exclude=fields) + "\n"


def _unwritable(place: Path, error: OSError) -> ResourceError:
    return ResourceError(
        found=f"that the review cannot be saved ({error.strerror or error})",
        expected=f"room and permission to write {place.name}",
        next_step="Free some space or export to another folder; nothing was lost yet",
    )


def _write_outline(folder: Path, outline: Outline, native: Grid) -> None:
    """Write an outline unless it is there: its name is the digest of what it holds."""
    place = folder / f"{outline.sha256}.nii.gz"
    if place.exists():
        return
    affine = native.affine.copy()
    affine[:3, 3] = native.to_mm(outline.corner)
    image = nib.Nifti1Image(np.asarray(outline.labels), affine)
    image.header.set_xyzt_units("mm")
    with atomic_file(place) as aside:
        nib.save(image, aside)


def _read(place: Path, edits: Path, check: Check | None = None) -> Review:
    try:
        content = read_model(place, ReviewFile)
    except FileNotFoundError:
        return Review()
    except (OSError, ValueError) as error:
        raise _unreadable(place) from error
    if check is not None:
        check(content)
    outlines = {row.sha256: _read_outline(edits, row) for row in content.outlines}
    if not {e.outline for e in content.events} - {None} <= set(outlines):
        raise _unreadable(place)
    return Review(content.events, outlines, content.unaided, content.responses)


def _read_outline(folder: Path, row: OutlineRow) -> Outline:
    place = folder / f"{row.sha256}.nii.gz"
    try:
        image: Any = nib.load(place)
        check_size(image.shape, place.name)
        labels = np.asarray(image.dataobj)
    except (OSError, EOFError, ValueError, zlib.error, ImageFileError) as error:
        raise _unreadable(place) from error
    found = Outline(row.tracking_uid, row.corner, labels)
    if labels.dtype != np.uint8 or labels.ndim != 3 or found.sha256 != row.sha256:
        raise _unreadable(place)
    return found


def _unreadable(place: Path) -> ReadError:
    return ReadError(
        found=f"a {place.name} that cannot be read as part of a review",
        expected="the file that LesionLens wrote",
        next_step=f"Move {NAME} away and review again, or restore both from a backup",
    )


class ReviewExporter:
    """Writes review.json with a result, empty if nobody has reviewed it yet."""

    name = "review"

    def missing(self, analysis: Analysis) -> str | None:
        """Nothing is needed."""
        del analysis
        return None

    def write(self, analysis: Analysis, staged: Path) -> tuple[Path, ...]:
        """Write the log."""
        written = save(analysis, staged)
        return written, *sorted((staged / EDITS).glob("*.nii.gz"))
