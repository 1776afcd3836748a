"""Adding, merging and splitting candidates, and the tools of an outline."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lesionlens.analysis.findings import additions, edit_tools
from lesionlens.analysis.findings.edits import outline_of
from lesionlens.base.errors import LesionLensError
from lesionlens.base.geometry import Labels
from lesionlens.base.grid import Grid
from lesionlens.base.labels import DrawingMethod, ReviewState, Source
from lesionlens.base.records.findings import Candidate, Point
from lesionlens.base.records.review import CAVITY
from lesionlens.napari.controllers.editor import EditedLabels
from lesionlens.napari.controllers.review_controller import ReviewController
from lesionlens.napari.model.acts.editing import OUTLINE
from lesionlens.napari.model.overlays.maps import cavity_of
from lesionlens.napari.model.screen.board import frame_of, shown_grid, slices_of
from lesionlens.napari.model.wording.edits import why_not_added, why_not_merged
from lesionlens.napari.qt.jobs import problem_of
from lesionlens.results.review.log import ReviewLog, new_tracking_uid

_NO_OUTLINE = "Edit a candidate first (Shift+E), or draw a new one (Shift+L)."
_FINISH_FIRST = "Press Done first (Shift+E): a new candidate can be split once it is finished."
_CAVITY_IS_WHOLE = "The resection cavity cannot be split: erase what is not cavity."
_POINT_HALVES = (
    "Point at one half, then at the other: click, or press Shift+Y with the pointer there; "
    "Esc cancels."
)
_POINT_OTHER_HALF = "Now point at the other half."

_CHECK_DIAMETERS = " The diameters are those placed by hand on {}: check them (Shift+D)."
"""Added after a merge; of two placed diameters, those of the kept candidate remain."""


class LesionAdder:
    """Adds, merges and splits candidates of one session."""

    def __init__(self, review_controller: ReviewController) -> None:
        self.review_controller = review_controller
        self.session, self.editor = review_controller.session, review_controller.editor

    # --- candidates -----------------------------------------------------------------------

    def add(self, point_mm: Point) -> bool:
        """Add the lesion at a point (RAS+ mm), outlined by one prompt."""
        return self.review_controller.after_edit(lambda: self._add(point_mm))

    def _add(self, point_mm: Point) -> bool:
        state, uid = self.session.state, new_tracking_uid()
        analysis, overlays, result = state.analysis, state.overlays, state.result
        if analysis is None or overlays is None or result is None:
            return self.session.decline(f"{why_not_added(state)}.")
        prepared, reader = analysis.prepared, self.review_controller.reader

        def record(log: ReviewLog) -> None:
            blocked = (overlays.components > 0) | cavity_of(analysis)
            allowed = edit_tools.editable_tissue(prepared, blocked)
            labels, prompt = additions.lesion_at(analysis, result.answer_prompts, allowed, point_mm)
            outline = outline_of(
                analysis, uid, np.zeros_like(labels), labels, np.zeros(labels.shape, bool)
            )
            log.add(outline, DrawingMethod.SEMIAUTOMATIC, reader=reader, prompts=(prompt,))

        return self.review_controller.change(
            "Outlining the lesion", record, lambda: self.review_controller.go_to_uid(uid)
        )

    def from_mark(self, point_mm: Point) -> bool:
        """Add the region at a mark, or go to the candidate there."""
        if self.session.state.overlays is None:
            return self.session.decline(
                "Sign your own read first: added lesions are shown with the result."
            )
        return self.review_controller.after_edit(lambda: self._from_mark(point_mm))

    def _from_mark(self, point_mm: Point) -> bool:
        overlays = self.session.state.overlays
        candidate_id = 0 if overlays is None else overlays.candidate_at(point_mm)
        if candidate_id == 0:
            return self._add(point_mm)
        if not self.session.go_to_candidate(candidate_id):
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
        reason = why_not_added(self.session.state)
        if reason:
            return self.session.decline(f"{reason}.")
        begin()
        return self.session.state.editing is not None

    def merge(self, other: int | None = None) -> bool:
        """Merge the candidate in focus with another one (by its id) or the nearest.

        The candidate in focus is kept, unless only the other one was flagged by the network and so
        has a score.
        """
        return self.review_controller.after_edit(lambda: self._merge(other))

    def _merge(self, other: int | None) -> bool:
        analysis, focused = self.session.state.analysis, self.session.state.focused
        if analysis is None or focused is None:
            return self.session.decline(f"{why_not_merged(self.session.state)}.")
        partner = self._merge_partner(focused, other)
        if partner is None:
            return self.session.decline("There is no other candidate to merge with.")
        reader = self.review_controller.reader
        kept, removed = _kept_first(focused, partner)
        kept_diameters, removed_diameters = (
            self.session.state.review.diameters_of(candidate.tracking_uid)
            for candidate in (kept, removed)
        )

        def record(log: ReviewLog) -> None:
            merged_outline, empty_outline = additions.merged(analysis, kept, removed)
            for candidate, outline, note in (
                (kept, merged_outline, f"merged with candidate {removed.id}"),
                (removed, empty_outline, f"merged into candidate {kept.id}"),
            ):
                reason = self.session.reason_with(candidate, note)
                log.decide(
                    candidate.tracking_uid, ReviewState.EDITED, reader=reader, reason=reason,
                    outline=outline,
                )  # fmt: skip

        def then() -> None:
            self.review_controller.go_to_uid(kept.tracking_uid)
            message = f"Candidate {removed.id} is now part of {kept.id}; U undoes that."
            if kept_diameters or removed_diameters:
                measured_id = kept.id if kept_diameters else removed.id
                message += _CHECK_DIAMETERS.format(measured_id)
            self.session.notify(message)

        return self.review_controller.change("Merging", record, then)

    def _merge_partner(self, focused: Candidate, other: int | None) -> Candidate | None:
        """Return the listed candidate of an id, by default the one nearest to the focused one."""
        others = [candidate for candidate in self.session.state.listed if candidate is not focused]
        by_distance = sorted(others, key=lambda candidate: _gap(candidate, focused))
        return next((c for c in by_distance if other in (None, c.id)), None)

    # --- tools ----------------------------------------------------------------------------

    def apply(
        self, tool: Callable[[Labels], Labels], unchanged_message: str, *, by_hand: bool = True
    ) -> None:
        """Apply a tool to the outline, as one stroke; notify if it changes nothing.

        Later prompts leave what it changed alone, unless `by_hand` is False.
        """
        edited = self._edited_labels()
        if edited is None:
            return
        try:
            changed = self.editor.change(tool(edited.current), by_hand=by_hand)
        except LesionLensError as error:
            self.session.refused(problem_of(error, OUTLINE))
        else:
            self.session.clear_problem(OUTLINE)
            self.session.decline("" if changed else unchanged_message)

    def _edited_labels(self) -> EditedLabels | None:
        """Return the labels being edited; None, with a message, if there are none."""
        if self.review_controller.notify_if_measuring():
            return None
        edited = self.editor.drawn()
        if edited is None:
            self.session.decline(_NO_OUTLINE)
        return edited

    def smooth(self) -> None:
        """Smooth the outline; a later prompt may move its border again."""
        spacing, allowed = self._spacing(), self.editor.allowed
        self.apply(
            lambda x: edit_tools.smoothed(x, spacing, allowed),
            "The outline is already smooth.",
            by_hand=False,
        )

    def fill_holes(self) -> None:
        """Fill the outline's holes with the brush's label."""
        label, allowed = self.editor.label, self.editor.allowed
        self.apply(
            lambda x: edit_tools.without_holes(x, label, allowed), "The outline has no holes."
        )

    def remove_islands(self) -> None:
        """Remove components much smaller than the largest."""
        self.apply(edit_tools.without_islands, "The outline has no small islands.")

    def interpolate(self) -> None:
        """Interpolate the slices between drawn ones, in the shown plane."""
        state, allowed = self.session.state, self.editor.allowed
        plane, frame, overlays = state.choices.plane, frame_of(state), state.overlays
        slices = slices_of(shown_grid(state), frame, plane)

        def tool(labels: Labels) -> Labels:
            if not frame.tilted or overlays is None or slices is None or not labels.any():
                return edit_tools.interpolated(labels, plane.through, self._spacing(), allowed)
            grid = overlays.grid
            points_mm = grid.to_mm(np.argwhere(labels))
            across = slices.grid_over(points_mm, float(grid.spacing_mm.min()))
            return edit_tools.interpolated_across(labels, grid, across, allowed)

        self.apply(tool, "There is no slice to interpolate in this plane.")

    # --- splitting ------------------------------------------------------------------------

    def begin_split(self) -> None:
        """Begin a split by two points."""
        if self._edited_labels() is not None:
            self.session.choose_tools(points=())
            self.session.notify(_POINT_HALVES)

    def add_split_point(self, point_mm: Point) -> bool:
        """Add a split point; False if no split is in progress."""
        points = self.session.state.tools.points
        if points is None:
            return False
        points = (*points, point_mm)
        if len(points) < 2:
            self.session.choose_tools(points=points)
            self.session.notify(_POINT_OTHER_HALF)
            return True
        self.session.choose_tools(points=None)
        first_mm, second_mm = points

        def cut(labels: Labels, grid: Grid) -> NDArray[np.bool_]:
            first, second = _voxel(grid, first_mm), _voxel(grid, second_mm)
            return edit_tools.split_between(labels, first, second, grid.spacing_mm)

        self._split(cut)
        return True

    def split_at(self, point_mm: Point) -> None:
        """Split at the slice through a point, in the shown plane."""
        state = self.session.state
        normal = frame_of(state).normal(state.choices.plane)
        self._split(
            lambda x, grid: edit_tools.split_at(x, _voxel(grid, point_mm), normal, grid.spacing_mm)
        )

    def _split(self, cut: Callable[[Labels, Grid], NDArray[np.bool_]]) -> None:
        edited, candidate = self._edited_labels(), self.session.state.edited
        analysis, overlays = self.session.state.analysis, self.session.state.overlays
        if edited is None or analysis is None or overlays is None:
            return
        if candidate is None:
            is_cavity = self.session.state.edited_uid == CAVITY
            self.session.decline(_CAVITY_IS_WHOLE if is_cavity else _FINISH_FIRST)
            return
        (initial, drawn, by_hand), grid = edited, overlays.grid
        reader = self.review_controller.reader
        uid, prompts = new_tracking_uid(), tuple(self.editor.rounds)
        reason = self.session.reason_for(candidate, ReviewState.EDITED)

        def record(log: ReviewLog) -> None:
            half = cut(drawn, grid) & (drawn > 0)
            if 2 * np.count_nonzero(half) > np.count_nonzero(drawn):
                half = ~half  # score and tracking UID stay with the larger part
            smaller = np.where(half, drawn, np.uint8(0))
            larger = np.where(half, np.uint8(0), drawn)
            sides = initial, larger, smaller
            kept, separated = additions.halves(analysis, candidate, uid, sides, by_hand)
            origin = f"split from candidate {candidate.id}"
            log.decide(
                candidate.tracking_uid,
                ReviewState.EDITED,
                reader=reader,
                reason=reason,
                outline=kept,
                prompts=prompts,
            )
            log.add(separated, DrawingMethod.SEMIAUTOMATIC, reader=reader, reason=origin)

        self.review_controller.change(
            "Splitting", record, lambda: self.review_controller.go_to_uid(uid)
        )

    def _spacing(self) -> NDArray[np.float64]:
        overlays = self.session.state.overlays
        return np.ones(3) if overlays is None else overlays.grid.spacing_mm


def _voxel(grid: Grid, point_mm: Point) -> tuple[int, int, int]:
    i, j, k = grid.nearest_voxel(point_mm).tolist()
    return i, j, k


def _kept_first(focused: Candidate, other: Candidate) -> tuple[Candidate, Candidate]:
    """Return the candidate that is kept in a merge, then the one that is removed.

    The network's is kept rather than a reader's.
    """
    first, second = sorted((focused, other), key=lambda c: c.source is Source.READER)
    return first, second


def _gap(candidate: Candidate, other: Candidate) -> float:
    """Return the distance between two boxes, mm, with that of the centroids as a tie-breaker."""
    low, high = np.asarray(candidate.bounding_box_mm)
    other_box = np.asarray(other.bounding_box_mm)
    gaps = np.maximum(np.maximum(low - other_box[1], other_box[0] - high), 0.0)
    offset = np.subtract(candidate.centroid_mm, other.centroid_mm)
    return float(np.linalg.norm(gaps) + 1e-3 * np.linalg.norm(offset))
