"""Keeps the strokes of an edit on disk, under the name of the reader who draws."""

from __future__ import annotations

import os
from pathlib import Path

from lesionlens.base.records.analysis import Analysis
from lesionlens.napari.controllers.current_read import CurrentRead
from lesionlens.results.review import drafts, store
from lesionlens.results.review.drafts import OutlineDraft, is_locked, lock_now


class DraftKeeper:
    """Writes, reads and deletes the draft of one window, and holds its lock meanwhile.

    A reader's name may change while strokes are drawn or offered: they then move to the new name.
    No draft of another window, or of an interrupted edit under that name, is replaced.
    """

    def __init__(self, current: CurrentRead) -> None:
        self._current = current
        self._last: tuple[str, str | None] = "", None
        """Key of the analysis whose draft was read or written last, and its owner then."""
        self._path: Path | None = None
        """The draft of this window."""
        self._lock: int | None = None

    def read(self, analysis: Analysis) -> OutlineDraft | None:
        """Return the interrupted strokes on an analysis, if there are any."""
        self.release()
        self._path = drafts.interrupted_draft(analysis, self._note(analysis))
        self._hold()
        return drafts.read_draft(analysis, self._path)

    def is_drawn_elsewhere(self, analysis: Analysis) -> bool:
        """Whether only another window of this reader has a draft of an analysis."""
        return self._path is None and drafts.is_drawn_elsewhere(analysis, self._last[1])

    def write(self, analysis: Analysis, draft: OutlineDraft) -> None:
        """Store the strokes.

        Raises
        ------
        ResourceError
            Not writable; the earlier draft is unchanged.
        """
        previous, owner = self._owner_of(analysis), self._current.decision_owner()
        path = self._path if owner == previous else None
        if path is None or (self._lock is None and is_locked(path)):
            path = drafts.free_path(analysis, owner)
        drafts.write_draft(analysis, draft, path)
        if owner != previous:
            self.delete()
        self._path = path
        self._note(analysis)
        self._hold()

    def delete(self) -> None:
        """Delete the strokes, which were kept or discarded."""
        if self._path is not None:
            drafts.delete_draft(self._path)
        self._path = None
        self.release()

    def release(self) -> None:
        """Let other windows offer the strokes: the study is left."""
        if self._lock is not None:
            os.close(self._lock)
        self._lock = None

    def _hold(self) -> None:
        """Lock the draft, which is a new file after each stroke."""
        lock = None if self._path is None else lock_now(self._path)
        self.release()
        self._lock = lock

    def _owner_of(self, analysis: Analysis) -> str | None:
        """Return under whose name the strokes on an analysis are stored."""
        key, owner = self._last
        is_noted = key == store.analysis_key(analysis.run)
        return owner if is_noted else self._current.decision_owner()

    def _note(self, analysis: Analysis) -> str | None:
        """Note the owner of the draft of an analysis now, and return it."""
        owner = self._current.decision_owner()
        self._last = store.analysis_key(analysis.run), owner
        return owner
