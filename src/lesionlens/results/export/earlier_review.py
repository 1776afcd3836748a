"""Keep the review of an earlier result that a new one replaces."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lesionlens.base.errors import ReadError, UnusableInputError
from lesionlens.base.files.bounded_read import read_model
from lesionlens.base.provenance import sha256_of
from lesionlens.base.records.files import ReviewFile
from lesionlens.base.records.review import Review
from lesionlens.results.export.result_files import KEPT, REVIEW

SET_ASIDE_WITH_REVIEW = (
    REVIEW,
    "findings.json",
    "segmentation.nii.gz",
    "candidates.nii.gz",
    "review_edits",
)
"""Files that are kept together with a review that is set aside."""


@dataclass(slots=True)
class EarlierReview:
    """The review in an output folder, while a new result is made for it."""

    folder: Path
    _seen: str | None = None

    def keep(self, aside: Path, review: Review) -> tuple[str, ...]:
        """Stage a copy of an earlier review that would be lost; return a notice about it."""
        found = self.folder / REVIEW
        self._seen = _digest(found)
        if self._seen is None or _continues(found, review):
            return ()
        stamp = datetime.fromtimestamp(found.stat().st_mtime, UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
        place = aside / KEPT / stamp
        number = 1
        while (self.folder / KEPT / place.name).exists():
            number += 1
            place = aside / KEPT / f"{stamp}-{number}"
        place.mkdir(parents=True)
        for name in SET_ASIDE_WITH_REVIEW:
            source = self.folder / name
            if source.is_dir():
                shutil.copytree(source, place / name)
            elif source.is_file():
                shutil.copy2(source, place / name)
        return (
            "The review in this folder is not, or not all, of this result: it is kept whole in "
            f"{KEPT}/{place.name}, with the findings and outlines that it speaks of",
        )

    def check_unchanged(self) -> None:
        """Refuse to replace a review that another process saved since `keep`.

        Raises
        ------
        UnusableInputError
            It is another one.
        """
        if _digest(self.folder / REVIEW) != self._seen:
            raise UnusableInputError(
                found=f"a review that was saved in {self.folder.name!r} at the same time",
                expected="one result at a time for a folder",
                next_step="Start again: the review there is then kept; nothing was changed",
            )


def _digest(file: Path) -> str | None:
    return sha256_of(file) if file.is_file() else None


def _continues(found: Path, review: Review) -> bool:
    """Return whether the new review begins with all acts of the earlier one."""
    try:
        stored = read_model(found, ReviewFile)
    except (OSError, ValueError, ReadError):
        return False  # unreadable: keep it
    began = review.events[: len(stored.events)] == stored.events
    return began and set(stored.unaided) <= set(review.unaided)
