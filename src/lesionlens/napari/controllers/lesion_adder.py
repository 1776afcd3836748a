"""Adding, merging and splitting candidates, and the tools of an outline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lesionlens.analysis.findings import additions, edit_tools
from lesionlens.analysis.findings.edits import outline_of
from lesionlens.base.errors import LesionLensError
from lesionlens.base.labels import DrawingMethod, ReviewState, Source
from lesionlens.base.records.findings import Candidate, DoubtfulPart, Point
from lesionlens.base.records.review import DrawnDiameters
from lesionlens.base.text import millilitres
from lesionlens.napari.controllers.editor import OutlineEditor
from lesionlens.napari.controllers.review_controller import ReviewController
from lesionlens.napari.model.acts.editing import OUTLINE
from lesionlens.napari.model.acts.session import ReviewSession
from lesionlens.napari.model.overlays.maps import cavity_of
from lesionlens.napari.model.wording.edits import why_not_added, why_not_merged
from lesionlens.napari.qt.jobs import problem_of
from lesionlens.results.review.log import ReviewLog, new_tracking_uid

_FIRST = "Edit a candidate first (Shift+E), or draw a new one (Shift+L)."
_DONE_FIRST = "Press Done first (Shift+E): a new candidate can be split when it is complete."
_ONE = "Point at one half, then at the other: click, or press Shift+Y with the pointer there."
_OTHER = "Now point at the other half."

_PLACED = " The diameters are those placed by hand on {}: check them (Shift+D)."
"""After a merge: a reader's diameters are kept, of two those of the candidate that is kept."""
_SAMPLES = 50
"""Points on a diameter at which the half that it lies in is looked up."""

Labels = NDArray[np.uint8]


class LesionAdder:
    """Adds, merges and splits candidates of one session."""

    def __init__(
        self, session: ReviewSession, review_controller: ReviewController, editor: OutlineEditor
    ) -> None:
        self.session, self.review_controller, self.editor = session, review_controller, editor

    # --- candidates -----------------------------------------------------------------------

    def add(self, point_mm: Point) -> bool:
        """Add the lesion at a point (RAS+ mm), outlined by one prompt."""
        return self.review_controller.after_edit(lambda: self._add(point_mm))

    def _add(self, point_mm: Point) -> bool:
        state, uid = self.session.state, new_tracking_uid()
        analysis, overlays, result = state.analysis, state.overlays, self.session.result
        if analysis is None or overlays is None or result is None:
            self.session.decline(f"{why_not_added(state)}.")
            return False
        prepared, reader = analysis.prepared, self.review_controller.reader

        def make(log: ReviewLog) -> None:
            others = (overlays.components > 0) | cavity_of(analysis)
            free = edit_tools.free_tissue(prepared, others)
            drawn, asked = additions.lesion_at(analysis, result.answer_prompts, free, point_mm)
            outline = outline_of(analysis, uid, np.zeros_like(drawn), drawn)
            log.add(outline, DrawingMethod.SEMIAUTOMATIC, reader=reader, prompts=(asked,))

        return self.review_controller.change(
            "Outlining the lesion", make, lambda: self.review_controller.go_to_uid(uid)
        )

    def from_mark(self, point_mm: Point) -> bool:
        """Add the region at a mark, or go to the candidate there."""
        overlays = self.session.state.overlays
        if overlays is None:
            self.session.decline(
                "Sign your own read first: added lesions are shown with the result."
            )
            return False
        there = overlays.candidate_at(point_mm)
        if there == 0:
            return self.add(point_mm)
        return self.review_controller.after_edit(lambda: self._go_to_marked(there))

    def _go_to_marked(self, candidate_id: int) -> bool:
        if not self.session.go_to(candidate_id):
            return False
        self.session.notify(f"Your mark lies in candidate {candidate_id}, which is now in focus.")
        return True

    def draw(self) -> None:
        """Begin to draw a new candidate; Done adds it."""
        self.review_controller.after_edit(lambda: self._draw(self.session.begin_new))

    def draw_cavity(self) -> None:
        """Begin to draw the resection cavity, or to redraw it."""
        self.review_controller.after_edit(lambda: self._draw(self.session.begin_cavity))

    def _draw(self, begin: Callable[[], object]) -> bool:
        words = why_not_added(self.session.state)
        if words:
            self.session.decline(f"{words}.")
            return False
        begin()
        return self.session.state.editing is not None

    def merge(self, other: int | None = None) -> bool:
        """Merge the candidate in focus with another one (by its id) or the nearest.

        The candidate in focus is kept, unless only the other one was flagged by the network and so
        has a score.
        """
        return self.review_controller.after_edit(lambda: self._merge(other))

    def _merge(self, other: int | None) -> bool:
        analysis, into = self.session.state.analysis, self.session.candidate()
        if analysis is None or into is None:
            self.session.decline(f"{why_not_merged(self.session.state)}.")
            return False
        others = [c for c in self.session.listed() if c.id != into.id]
        near = sorted(others, key=lambda c: _gap(c, into))
        chosen = next((c for c in near if other in (None, c.id)), None)
        if chosen is None:
            self.session.decline("There is no other candidate to merge with.")
            return False
        reader = self.review_controller.reader
        kept, gone = _kept_first(into, chosen)

        review = self.session.state.review
        placed, other_placed = (review.diameters_of(one.tracking_uid) for one in (kept, gone))

        def make(log: ReviewLog) -> None:
            both, nothing = additions.merged(analysis, kept, gone)
            with log.one_act():
                if placed is None and other_placed is not None:
                    log.place_diameters(kept.tracking_uid, other_placed, reader=reader)
                for one, outline, words in (
                    (kept, both, f"merged with candidate {gone.id}"),
                    (gone, nothing, f"merged into candidate {kept.id}"),
                ):
                    reason = self.session.reason_with(one, words)
                    log.mark(
                        one.tracking_uid, ReviewState.EDITED, reader=reader, reason=reason,
                        outline=outline,
                    )  # fmt: skip

        def then() -> None:
            self.review_controller.go_to_uid(kept.tracking_uid)
            measured = [one.id for one, by in ((kept, placed), (gone, other_placed)) if by]
            self.session.notify(
                f"Candidate {gone.id} is now part of {kept.id}; U undoes that."
                + (_PLACED.format(measured[0]) if measured else "")
            )

        return self.review_controller.change("Merging", make, then)

    def leave_out(self, part: DoubtfulPart) -> bool:
        """Remove a doubtful part from its outline, as an edit that can be undone."""
        return self.review_controller.after_edit(lambda: self._leave_out(part))

    def _leave_out(self, part: DoubtfulPart) -> bool:
        analysis, reader = self.session.state.analysis, self.review_controller.reader
        candidate = next((c for c in self.session.listed() if c.id == part.candidate), None)
        if analysis is None or candidate is None:
            self.session.decline("Go to a doubtful part of a listed candidate first.")
            return False
        words = self.session.reason_with(
            candidate, f"doubtful part of {millilitres(part.volume_ml)} ml left out"
        )

        def make(log: ReviewLog) -> None:
            log.mark(
                candidate.tracking_uid,
                ReviewState.EDITED,
                reader=reader,
                reason=words,
                outline=additions.without_doubtful(analysis, part),
            )

        def then() -> None:
            self.session.notify(f"{millilitres(part.volume_ml)} ml removed; U undoes that.")

        return self.review_controller.change("Removing a part", make, then)

    # --- tools ----------------------------------------------------------------------------

    def apply(self, tool: Callable[[Labels], Labels], nothing: str) -> None:
        """Apply a tool to the outline, as one stroke; notify if it changes nothing."""
        sides = self._sides()
        if sides is None:
            return
        try:
            changed = self.editor.change(tool(sides[1]))
        except LesionLensError as refusal:
            self.session.refused(replace(problem_of(refusal), cause=OUTLINE))
        else:
            self.session.clear_problem(OUTLINE)
            self.session.decline("" if changed else nothing)

    def _sides(self) -> tuple[Labels, Labels] | None:
        sides = None if self.review_controller.busy else self.editor.drawn()
        if sides is None and not self.review_controller.busy:
            self.session.decline(_FIRST)
        return sides

    def smooth(self) -> None:
        """Smooth the outline."""
        spacing, free = self._spacing(), self.editor.allowed
        self.apply(
            lambda x: edit_tools.smoothed(x, spacing, free), "The outline is already smooth."
        )

    def fill_holes(self) -> None:
        """Fill the outline's holes with the brush's label."""
        label, free = self.editor.label, self.editor.allowed
        self.apply(lambda x: edit_tools.without_holes(x, label, free), "The outline has no holes.")

    def remove_islands(self) -> None:
        """Remove components much smaller than the largest."""
        self.apply(edit_tools.without_islands, "The outline has no small islands.")

    def interpolate(self) -> None:
        """Interpolate the slices between drawn ones, in the shown plane."""
        axis, spacing = self.session.state.choices.plane.through, self._spacing()
        free = self.editor.allowed
        self.apply(
            lambda x: edit_tools.interpolated(x, axis, spacing, free),
            "There is no slice to interpolate in this plane.",
        )

    # --- splitting ------------------------------------------------------------------------

    def begin_split(self) -> None:
        """Begin a split by two points, or cancel it."""
        if self._sides() is None:
            return
        wanted = self.session.state.tools.points is None
        self.session.choose_tools(points=() if wanted else None)
        self.session.notify(_ONE if wanted else "")

    def point(self, point_mm: Point) -> bool:
        """Add a split point; False if no split is in progress."""
        points = self.session.state.tools.points
        if points is None:
            return False
        points = (*points, point_mm)
        if len(points) < 2:
            self.session.choose_tools(points=points)
            self.session.notify(_OTHER)
            return True
        self.session.choose_tools(points=None)
        first, second = (self._voxel(one) for one in points)
        spacing = self._spacing()
        self._split(lambda x: edit_tools.split_between(x, first, second, spacing))
        return True

    def split_at(self, point_mm: Point) -> None:
        """Split at the slice through a point, in the shown plane."""
        axis = self.session.state.choices.plane.through
        index = self._voxel(point_mm)[axis]
        self._split(lambda x: edit_tools.split_at(x, axis, index))

    def _split(self, cut: Callable[[Labels], NDArray[np.bool_]]) -> None:
        sides, candidate = self._sides(), self.session.edited()
        analysis, reader = self.session.state.analysis, self.review_controller.reader
        if sides is None or analysis is None:
            return
        if candidate is None:
            self.session.decline(_DONE_FIRST)
            return
        shown, drawn = sides
        uid = new_tracking_uid()

        reason = self.session.reason_for(candidate, ReviewState.EDITED)

        def make(log: ReviewLog) -> None:
            half = cut(drawn) & (drawn > 0)
            if 2 * np.count_nonzero(half) > np.count_nonzero(drawn):
                half = ~half  # score and identity stay with the larger part
            smaller = np.where(half, drawn, np.uint8(0))
            larger = np.where(half, np.uint8(0), drawn)
            kept, rest = additions.halves(analysis, candidate, uid, (shown, larger, smaller))
            words = f"split from candidate {candidate.id}"
            placed = log.review.diameters_of(candidate.tracking_uid)
            moved = placed is not None and self._within(placed, smaller, larger)
            with log.one_act():
                if moved:
                    log.place_diameters(candidate.tracking_uid, None, reader=reader)
                log.mark(
                    candidate.tracking_uid,
                    ReviewState.EDITED,
                    reader=reader,
                    reason=reason,
                    outline=kept,
                )
                log.add(rest, DrawingMethod.SEMIAUTOMATIC, reader=reader, reason=words)
                if moved:
                    log.place_diameters(uid, placed, reader=reader)

        self.review_controller.change(
            "Splitting", make, lambda: self.review_controller.go_to_uid(uid)
        )

    def _within(self, placed: DrawnDiameters, half: Labels, other: Labels) -> bool:
        """Whether a reader's diameters run more through one half than through the other."""
        overlays = self.session.state.overlays
        if overlays is None:
            return False
        points = np.concatenate([np.linspace(*ends, _SAMPLES) for ends in placed])
        voxels = tuple(overlays.grid.nearest_voxel(points, clip=True).T)
        return bool(np.count_nonzero(half[voxels]) > np.count_nonzero(other[voxels]))

    def _spacing(self) -> NDArray[np.float64]:
        overlays = self.session.state.overlays
        return np.ones(3) if overlays is None else overlays.grid.spacing_mm

    def _voxel(self, point_mm: Point) -> tuple[int, int, int]:
        overlays = self.session.state.overlays
        if overlays is None:
            return 0, 0, 0
        i, j, k = overlays.grid.nearest_voxel(point_mm).tolist()
        return i, j, k


def _kept_first(focused: Candidate, other: Candidate) -> tuple[Candidate, Candidate]:
    """Return the candidate that is kept in a merge, then the one that is removed."""
    both = (focused, other)
    flagged = [one.source is not Source.READER for one in both]
    return (other, focused) if flagged == [False, True] else both


def _gap(one: Candidate, other: Candidate) -> float:
    """Return the distance between two boxes, mm, with that of the centroids as a tie-breaker."""
    low, high = np.asarray(one.bounding_box_mm)
    theirs = np.asarray(other.bounding_box_mm)
    apart = np.maximum(np.maximum(low - theirs[1], theirs[0] - high), 0.0)
    middles = np.subtract(one.centroid_mm, other.centroid_mm)
    return float(np.linalg.norm(apart) + 1e-3 * np.linalg.norm(middles))
