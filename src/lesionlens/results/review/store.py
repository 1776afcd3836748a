"""review.json: the decisions stored with a result, with which a review can continue elsewhere.

Edited outlines are stored in `review_edits/<sha256>.nii.gz`: NIfTI of the candidate's box, uint8
labels in patient coordinates, named by their digest, so that damage is detected. Files are replaced
atomically, so that a power cut leaves the last complete state. review.json is written when a result
is saved; until then the decisions are in the log of the read (`site/database`). Nothing is written
into or beside the study.
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

from lesionlens.base.errors import ReadError, ResourceError, is_refusal, unreadable
from lesionlens.base.files import read_model, user_data
from lesionlens.base.grid import Grid
from lesionlens.base.records.analysis import Analysis, RunInfo
from lesionlens.base.records.files import (
    CandidateReference,
    OutlineRow,
    ReviewFile,
    is_of_another_version,
)
from lesionlens.base.records.review import Outline, Review
from lesionlens.base.scan_limits import check_size
from lesionlens.base.storage import atomic_file, finish, locked, write_atomically
from lesionlens.results.review.log import ReviewLog, unusable_labels
from lesionlens.results.review.saved_parts import inputs_sha256

logger = logging.getLogger(__name__)

Check = Callable[[ReviewFile], None]
NAME = "review.json"
EDITS = "review_edits"
_ONLY_IN_LOG = {"events": {"__all__": {"phase", "seconds", "at_mm", "confidence"}}}
"""Fields of events that are only in the log of a read."""


def review_file(analysis: Analysis) -> ReviewFile:
    """Build review.json's content from an analysis and its review."""
    return ReviewFile(
        study_uid=analysis.study.uid,
        inputs_sha256=inputs_sha256(analysis.run.inputs),
        candidates=tuple(
            CandidateReference(
                id=c.id,
                tracking_uid=c.tracking_uid,
                place=c.location.text,
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
    """Write the outlines, then review.json that refers to them, each atomically.

    Raises
    ------
    ResourceError
        The folder is not writable; the earlier file is unchanged.
    """
    path, text = folder / NAME, review_file(analysis).file_text(_ONLY_IN_LOG)
    try:
        for outline in analysis.review.outlines.values():
            _write_outline(folder / EDITS, outline, analysis.volumes.labels.grid)
        write_atomically(path, text)
    except OSError as error:
        raise _unwritable(path, error) from error
    return path


def change_response(folder: Path, act: Callable[[ReviewLog], None]) -> None:
    """Sign or withdraw the response in the review of a saved result, atomically.

    Raises
    ------
    ReadError
        review.json is damaged.
    ResourceError
        The file is not writable.
    """
    path = folder / NAME
    finish(folder)
    with locked(folder):
        try:
            content = _content_of(path)
        except (OSError, ValueError) as error:
            raise _unreadable(path, error) from error
        log = ReviewLog(Review(content.events, responses=content.responses))
        act(log)
        changed = {"events": log.review.events, "responses": log.review.responses}
        updated = content.model_copy(update=changed)
        try:
            write_atomically(path, updated.file_text(_ONLY_IN_LOG))
        except OSError as error:
            raise _unwritable(path, error) from error


def load(folder: Path, check: Check | None = None) -> Review:
    """Read the review of a result folder; empty if there is none.

    Parameters
    ----------
    check : callable or None
        Raises if the content belongs to another result.

    Raises
    ------
    ReadError
        review.json is not a LesionLens file, or damaged.
    """
    finish(folder)
    return _read(folder / NAME, folder / EDITS, check)


def owner_of(reader: str | None, session: int, arm: str) -> str | None:
    """Return the owner of drafts: the reader, in a reader study of one session.

    Drafts of another session or arm are not shown.
    """
    return f"{reader}, session {session}, {arm}" if session else reader


def analysis_key(run: RunInfo, reader: str | None = None) -> str:
    """Return the key of an analysis, or of a reader's draft of it: digest of input and weights.

    Two readers on one machine do not see each other's drafts. Names of files do not count.
    """
    digest = hashlib.sha256(b"" if reader is None else f"{reader}\0".encode())
    for sha256 in sorted(sha256 for _, sha256 in run.inputs):
        digest.update(sha256.encode())
    engine = run.engine
    digest.update(f"{engine.name} {engine.version} {engine.weights_sha256}".encode())
    return digest.hexdigest()[:32]


def sessions_folder() -> Path:
    """Return the user's folder of drafts."""
    return user_data() / "reviews"


def _unwritable(path: Path, error: OSError) -> ResourceError:
    return ResourceError(
        found=f"that the review cannot be saved ({error.strerror or error})",
        expected=f"free space and permission to write {path.name}",
        next_step="Free some space or export to another folder; nothing has been lost",
    )


def _write_outline(folder: Path, outline: Outline, native: Grid) -> None:
    """Write an outline unless it exists: its name is its digest."""
    path = folder / f"{outline.sha256}.nii.gz"
    if path.exists():
        return
    affine = native.affine.copy()
    affine[:3, 3] = native.to_mm(outline.corner)
    image = nib.Nifti1Image(np.asarray(outline.labels), affine)
    image.set_qform(affine, 1)  # ITK needs it where the sform is sheared
    image.header.set_xyzt_units("mm")
    with atomic_file(path) as temporary:
        nib.save(image, temporary)


def _read(path: Path, edits: Path, check: Check | None = None) -> Review:
    try:
        content = _content_of(path)
    except FileNotFoundError:
        return Review()
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if check is not None:
        check(content)
    outlines = {row.sha256: _read_outline(edits, row) for row in content.outlines}
    if not {e.outline for e in content.events} - {None} <= set(outlines):
        raise _unreadable(path)
    return Review(content.events, outlines, content.unaided, content.responses)


def _content_of(path: Path) -> ReviewFile:
    """Read review.json; ValueError if it is damaged, or does not name its schema."""
    content = read_model(path, ReviewFile)
    if "schema_" not in content.model_fields_set:
        raise ValueError("no schema")
    return content


def _read_outline(folder: Path, row: OutlineRow) -> Outline:
    path = folder / f"{row.sha256}.nii.gz"
    try:
        image: Any = nib.load(path)
        check_size(image.shape, path.name)
        labels = np.asarray(image.dataobj)
    except (OSError, EOFError, ValueError, zlib.error, ImageFileError) as error:
        raise _unreadable(path, error) from error
    outline = Outline(row.tracking_uid, row.corner, labels)
    if labels.dtype != np.uint8 or labels.ndim != 3 or outline.sha256 != row.sha256:
        raise _unreadable(path)
    if unusable_labels(outline):
        raise _unreadable(path)
    return outline


def _unreadable(path: Path, error: Exception | None = None) -> ReadError:
    if is_refusal(error):  # to move it away would lose decisions
        return unreadable(error, path.name)
    if is_of_another_version(error):
        return ReadError(
            found=f"a {path.name} of another version of LesionLens",
            expected="a review of this version or an earlier one",
            next_step="Update LesionLens; the review is in the file unchanged",
        )
    return ReadError(
        found=f"a {path.name} that cannot be read as part of a review",
        expected="the file that LesionLens wrote",
        next_step=f"Move {NAME} away and review again, or restore both from a backup",
    )


class ReviewExporter:
    """Writes review.json with a result, empty if unreviewed."""

    name = "review"

    def missing(self, analysis: Analysis) -> str | None:
        """Return None: nothing is required."""
        del analysis
        return None

    def write(self, analysis: Analysis, staged: Path) -> tuple[Path, ...]:
        """Write the log."""
        written = save(analysis, staged)
        return written, *sorted((staged / EDITS).glob("*.nii.gz"))
