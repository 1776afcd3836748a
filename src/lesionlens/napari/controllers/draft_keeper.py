"""Keeps the strokes of an edit on disk, under the name of the reader who draws."""

from __future__ import annotations

from lesionlens.base.records.analysis import Analysis
from lesionlens.napari.controllers.current_read import CurrentRead
from lesionlens.results.review import drafts, store
from lesionlens.results.review.drafts import OutlineDraft


class DraftKeeper:
    """Writes, reads and deletes the draft of one window.

    A reader's name may change while strokes are drawn or offered: they then move to the new name,
    and strokes that were interrupted under that name are kept for later.
    """

    def __init__(self, current: CurrentRead) -> None:
        self._current = current
        self._last: tuple[str, str | None] = "", None
        """Key of the analysis whose draft was read or written last, and its owner then."""

    def read(self, analysis: Analysis) -> OutlineDraft | None:
        """Return the interrupted strokes on an analysis, if there are any."""
        return drafts.read_draft(analysis, self._note(analysis))

    def write(self, analysis: Analysis, draft: OutlineDraft) -> None:
        """Store the strokes.

        Raises
        ------
        ResourceError
            Not writable; the earlier draft is unchanged.
        """
        previous, owner = self._owner_of(analysis), self._current.decision_owner()
        if owner != previous:
            drafts.set_draft_aside(analysis, owner)
        drafts.write_draft(analysis, draft, owner)
        self._note(analysis)
        if owner != previous:
            drafts.delete_draft(analysis, previous)

    def delete(self, analysis: Analysis) -> None:
        """Delete the strokes, which were kept or discarded."""
        drafts.delete_draft(analysis, self._owner_of(analysis))

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
