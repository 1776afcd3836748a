"""The reader's marks: placed, removed and signed in the read in progress."""

from __future__ import annotations

import math
from collections.abc import Callable

from lesionlens.base.errors import LesionLensError, ResourceError
from lesionlens.base.records.findings import Point
from lesionlens.base.text import capitalized
from lesionlens.napari.controllers.current_read import CurrentRead
from lesionlens.napari.model.acts.session import SAVING
from lesionlens.napari.model.wording import reads
from lesionlens.site.database.records import Mark
from lesionlens.site.worklist.read_session import ReadSession

_SAME_MM = 1e-3


class Marking:
    """The marks of the read in progress, and the confidence of the next one."""

    def __init__(self, current: CurrentRead) -> None:
        self._current = current
        self.confidence: int | None = None
        """Confidence of the next mark or decision, 0 to 100; None if not stated."""
        self.in_head: Callable[[Point], bool] = lambda _: True
        """Returns whether a point (RAS+ mm) lies in the head; set by the window."""
        self.on_stored: Callable[[], object] = lambda: None
        """Called when an act was stored; set by the saver of decisions."""

    @property
    def marks(self) -> tuple[Mark, ...]:
        """The marks of this read, oldest first."""
        read_session = self._current.read_session
        return () if read_session is None else read_session.read.marks

    def can_remove(self, mark: Mark) -> bool:
        """Whether a mark can still be removed."""
        read_session = self._current.read_session
        return (
            read_session is not None
            and not read_session.is_signed
            and mark.phase is read_session.phase
        )

    def show_marks(self) -> None:
        """Show the marks in the views, and the read in the panel."""
        self._current.session.show_marks(tuple(mark.at_mm for mark in self.marks))
        self._current.changed.emit()

    def mark(self, point_mm: Point) -> None:
        """Mark a position in the head with its confidence, which a protocol may require.

        The confidence applies to this mark only. The last mark, repeated without one, is the second
        press of a double click: it is not added.
        """
        if self._current.read_session is not None and not self._current.is_signed:
            if self.confidence is None and self._repeats(point_mm):
                return
            if not self.in_head(point_mm):
                self._decline("That position is outside the head: nothing was marked.")
                return
            begun = self._current.begun
            if begun is not None and begun.rated and self.confidence is None:
                self._decline(reads.UNRATED)
                return

        def mark(read_session: ReadSession) -> None:
            read_session.mark(point_mm, self.confidence)
            self.confidence = None

        self._apply(mark)

    def _repeats(self, point_mm: Point) -> bool:
        """Return whether a position is that of the last mark of this phase."""
        read_session = self._current.read_session
        marks = () if read_session is None else read_session.read.marks_of(read_session.phase)
        return bool(marks) and math.dist(marks[-1].at_mm, point_mm) < _SAME_MM

    def remove_mark(self, uid: str | None = None) -> None:
        """Remove a mark, by default the last one of this phase."""
        current = self._current.read_session
        marks = () if current is None else current.read.marks_of(current.phase)
        mark_uid = uid or (marks[-1].uid if marks else "")
        if current is not None and not mark_uid:
            self._decline("There is no mark to remove.")
        else:
            self._apply(lambda read_session: read_session.remove_mark(mark_uid))

    def sign(self) -> bool:
        """Sign the marks of this phase; False, with a message, if that is refused."""
        return self._apply(ReadSession.sign)

    def _apply(self, act: Callable[[ReadSession], object]) -> bool:
        read_session = self._current.read_session
        if read_session is None:
            return self._decline("Marks are available in worklists and in unaided reading.")
        try:
            act(read_session)
        except ResourceError as error:
            self._current.report_unsaved(error, reads.REPEAT)
            return False
        except LesionLensError as refusal:
            return self._decline(f"{capitalized(refusal.found)}. {refusal.in_window}.")
        self._current.session.clear_problem(SAVING)
        self.on_stored()
        self.show_marks()
        return True

    def _decline(self, message: str) -> bool:
        return self._current.session.decline(message)
