"""Keep the review of an earlier result that a new one replaces."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lesionlens.base.errors import ReadError
from lesionlens.base.files import read_model
from lesionlens.base.records.files import ReviewFile
from lesionlens.base.records.review import Review
from lesionlens.results.export.result_files import KEPT, REVIEW

KEPT_WITH_REVIEW = (
    REVIEW,
    "findings.json",
    "segmentation.nii.gz",
    "candidates.nii.gz",
    "review_edits",
)
"""Files that are kept together with an earlier review."""
_KEPT_NOTICE = re.compile(
    rf"The earlier review in this folder was replaced: it is kept unchanged in ({KEPT}/[^/,]+), "
)


@dataclass(slots=True)
class EarlierReview:
    """The review in an output folder, while a new result is made for it."""

    folder: Path

    def keep(self, staging: Path, review: Review) -> tuple[str, ...]:
        """Stage a copy of an earlier review that would be lost; return a notice about it."""
        review_path = self.folder / REVIEW
        if not review_path.is_file() or _continues(review_path, review):
            return ()
        stamp = datetime.fromtimestamp(review_path.stat().st_mtime, UTC).strftime(
            "%Y-%m-%dT%H-%M-%SZ"
        )
        target = staging / KEPT / stamp
        number = 1
        while (self.folder / KEPT / target.name).exists():
            number += 1
            target = staging / KEPT / f"{stamp}-{number}"
        target.mkdir(parents=True)
        for name in KEPT_WITH_REVIEW:
            source = self.folder / name
            if source.is_dir():
                shutil.copytree(source, target / name)
            elif source.is_file():
                shutil.copy2(source, target / name)
        return (
            "The earlier review in this folder was replaced: it is kept unchanged in "
            f"{KEPT}/{target.name}, with its findings and outlines",
        )

    def current(self, notices: Iterable[str]) -> tuple[str, ...]:
        """Return a result's notices without those on reviews that another folder keeps."""
        matches = ((notice, _KEPT_NOTICE.match(notice)) for notice in notices)
        return tuple(n for n, kept in matches if kept is None or (self.folder / kept[1]).is_dir())


def _continues(review_path: Path, review: Review) -> bool:
    """Return whether the new review begins with a stored one's events, and has all it signed."""
    try:
        stored = read_model(review_path, ReviewFile)
    except (OSError, ValueError, ReadError):
        return False  # unreadable: keep it
    signed, signed_now = (
        {*statements.unaided, *statements.responses} for statements in (stored, review)
    )
    return review.continues(Review(stored.events)) and signed <= signed_now
