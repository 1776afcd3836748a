"""A second result of the study: comparison, navigation, adoption of parts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.analysis.evaluation.agreement import Agreement, Disagreement, known_regions
from lesionlens.analysis.findings import additions
from lesionlens.analysis.findings.edits import applied
from lesionlens.base.labels import DrawingMethod, ReviewState
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.findings import Candidate, Point
from lesionlens.base.run_context import RunContext
from lesionlens.base.text import counted, joined_with_and, millilitres
from lesionlens.napari.controllers.review_controller import ReviewController
from lesionlens.napari.model.acts.views import ViewActs
from lesionlens.napari.model.choices.choices import Overlay
from lesionlens.napari.model.choices.views import Layout
from lesionlens.napari.model.geometry.contours import on_screen
from lesionlens.napari.model.geometry.planes import Plane
from lesionlens.napari.model.geometry.slices import OrientedVolume
from lesionlens.napari.model.screen.board import frame_of, tiles_of
from lesionlens.napari.model.state.events import SlicesRequested
from lesionlens.napari.model.state.second import SecondResult
from lesionlens.napari.model.state.state import State
from lesionlens.napari.model.wording.second import disagreement_text, small_differences_text
from lesionlens.results.review.log import ReviewLog, new_tracking_uid
from lesionlens.results.review.reopen import is_result, reopen_folder, result_folder

InSight = Callable[[Plane, NDArray[np.float64]], bool]

_NO_SECOND_RESULT = "There is no second result yet: choose Open…, Second result of this study…"
_DISAGREEMENT = "the disagreement"
_START = (0, 1)
_READ_STAGE = "read the second result"
_AGREE = "Both results agree: no part is outlined in only one of them."
_SMALL_DIFFERENCES = "No part is listed, but the outlines differ: {}."


class SecondResultController:
    """The second result of one session."""

    def __init__(self, review_controller: ReviewController, views: ViewActs) -> None:
        self._session, self._jobs = review_controller.session, review_controller.jobs
        self._review, self._views = review_controller, views
        self._neighbours = _START
        """Numbers of the previous and the next disagreement; beyond the list they wrap around."""
        self._visited_mm: Point | None = None
        """Position of the last visited disagreement, RAS+ mm; its number may change."""
        self._compared_analysis: Analysis | None = None
        self.in_sight: InSight = lambda *_: True
        """Returns whether a view shows any of some points, (N, 3) RAS+ mm, of a plane's slice."""

    def open(self, path: Path) -> bool:
        """Show another result of the open study beside it; accepts what `reopen_folder` does."""
        analysis = self._session.state.analysis
        if analysis is None:
            return self._session.decline("Analyse the study, or reopen a result of it, first.")

        def task(context: RunContext) -> SecondResult:
            context.progress(_READ_STAGE, 0.0)
            reopened = reopen_folder(path, analysis.study, analysis.prepared)
            context.check(_READ_STAGE)
            notices = () if is_result(result_folder(path)) else reopened.run.notices
            name = _result_name(reopened, path)
            second = SecondResult.of(name, applied(reopened), analysis, notices)
            context.check(_READ_STAGE)
            return second

        def on_result(second: SecondResult) -> str | None:
            if self._session.state.study is not analysis.study:
                return "The second result was discarded: its study is no longer open."
            self._neighbours, self._visited_mm, self._compared_analysis = _START, None, analysis
            self._session.show_second_result(second)
            self.follow()
            disagreements = counted(len(second.agreement.disagreements), "disagreement")
            return f"{disagreements}: F7 goes through them, F8 adopts the other outline."

        return self._jobs.start("Reading a second result", task, on_result)

    def close(self) -> None:
        """Close the second result."""
        if self._session.state.second is None:
            self._session.decline(_NO_SECOND_RESULT)
        else:
            self._session.show_second_result(None)

    def follow(self) -> None:
        """Compare again after a change of the open result."""
        state = self._session.state
        if (
            state.second is None
            or state.analysis is None
            or state.analysis is self._compared_analysis
        ):
            return
        self._compared_analysis = state.analysis
        self._session.show_second_result(state.second.against(state.analysis))

    def step(self, by: int) -> None:
        """Go to the next or previous disagreement, cyclically."""
        self._review.once_measured(partial(self._step, by), _DISAGREEMENT)

    def _step(self, by: int) -> None:
        second = self._session.state.second
        if second is None:
            self._session.decline(_NO_SECOND_RESULT)
        elif parts := second.agreement.disagreements:
            previous, following = self._neighbours
            self._visit(parts[((following if by > 0 else previous) - 1) % len(parts)])
        else:
            differences = small_differences_text(second.agreement)
            message = _SMALL_DIFFERENCES.format(differences) if differences else _AGREE
            self._session.decline(message)

    def _visit(self, part: Disagreement) -> None:
        """Go to a disagreement, and describe it."""
        self._session.notify(f"Disagreement {self._show(part)}. F8 adopts it.")

    def _show(self, part: Disagreement) -> str:
        """Go to a disagreement; return its number and description."""
        second = self._session.state.second
        count = 0 if second is None else len(second.agreement.disagreements)
        self._visited_mm = part.point_mm
        self._neighbours = part.number - 1, part.number + 1
        self._session.show_contours()
        self._views.go_to_point(part.point_mm)
        return f"{part.number} of {count}: {disagreement_text(part)}"

    def go_to_disagreement(self, point_mm: Point) -> None:
        """Go to the disagreement at a point (RAS+ mm)."""
        self._review.once_measured(partial(self._go_to_disagreement, point_mm), _DISAGREEMENT)

    def _go_to_disagreement(self, point_mm: Point) -> None:
        second = self._session.state.second
        parts = () if second is None else second.agreement.disagreements
        visited = next((part for part in parts if part.point_mm == point_mm), None)
        if visited is not None:
            self._visit(visited)

    def adopt(self) -> bool:
        """Adopt the second result at the disagreement in view.

        It is the one at the crosshair of linked views, else the last visited one. If the views have
        moved away from it, they return to it, and nothing is adopted yet.
        """
        if self._session.state.second is None:
            return self._session.decline(_NO_SECOND_RESULT)
        return self._review.after_edit(self._adopt)

    def _selected_part(self) -> Disagreement | None:
        """Return the disagreement at the crosshair of linked views, else the last visited one."""
        state = self._session.state
        if state.second is None or state.analysis is None:
            return None
        agreement = state.second.agreement
        if self._views.shown_layout() is not Layout.SINGLE:
            grid = state.analysis.volumes.labels.grid
            voxel = grid.nearest_voxel(self._views.viewpoint.current.point_mm, clip=True)
            number = int(agreement.parts[tuple(voxel)])
            if number:
                return agreement.disagreements[number - 1]
        return next(
            (part for part in agreement.disagreements if part.point_mm == self._visited_mm), None
        )

    def _adopt(self) -> bool:
        state = self._session.state
        second, analysis = state.second, state.analysis
        part = self._selected_part()
        if second is None or analysis is None or part is None:
            return self._session.decline("Go to a disagreement first (F7).")
        crosshair_mm = self._views.viewpoint.current.point_mm
        if not is_visible_at(state, second.agreement, part, crosshair_mm, self.in_sight):
            self._session.happened.emit(SlicesRequested())  # in 3-D no outline is drawn
            return self._session.decline(
                f"It was out of view. {self._show(part)}. F8 adopts it now."
            )
        if state.choices.overlay is Overlay.OFF:
            return self._session.decline(
                "The outlines are not shown: press T, compare both, then press F8."
            )
        inside = second.agreement.parts == part.number
        candidate = _candidate_of(analysis, part, inside)
        writable_ids = (0, 0 if candidate is None else candidate.id)
        inside &= np.isin(analysis.findings.components, writable_ids)
        adopted_ml = analysis.volumes.labels.grid.volume_ml(inside)
        reader = self._review.reader
        uid = new_tracking_uid() if candidate is None else candidate.tracking_uid
        reason = f"{millilitres(adopted_ml)} ml as in {second.name}"
        if candidate is not None:
            reason = self._session.reason_with(candidate, reason)

        def record(log: ReviewLog) -> None:
            outline = additions.with_part(analysis, uid, inside, second.labels)
            if candidate is None:
                log.add(outline, DrawingMethod.SEMIAUTOMATIC, reader=reader, reason=reason)
            else:
                log.decide(uid, ReviewState.EDITED, reader=reader, reason=reason, outline=outline)

        def then() -> None:
            self._neighbours = part.number - 1, part.number  # the next one now has its number
            parts = "" if part.by_first else _undistinguished_text(analysis, second)
            self._session.notify(f"{millilitres(adopted_ml)} ml adopted; U undoes that.{parts}")

        return self._review.change("Adopting an outline", record, then)


def is_visible_at(
    state: State, agreement: Agreement, part: Disagreement, point_mm: Point, in_sight: InSight
) -> bool:
    """Whether a slice through a point (RAS+ mm), as the views show it, cuts a disagreement."""
    analysis, choices = state.analysis, state.choices
    if analysis is None:
        return False
    parts, frame = OrientedVolume.of(agreement.parts, analysis.volumes.labels.grid), frame_of(state)
    planes = {tile.plane for tile in tiles_of(state, choices.views.layout)} or {choices.plane}
    for plane in planes:
        depth = float(frame.depth(plane, point_mm))
        cut = parts.cut(frame, plane, parts.number_at(frame, plane, depth), nearest=True)
        positions = np.argwhere(cut.data == part.number).astype(np.float64)
        if len(positions) and in_sight(
            plane, frame.in_patient(plane, on_screen(positions, cut), depth)
        ):
            return True
    return False


def _candidate_of(analysis: Analysis, part: Disagreement, inside: Any) -> Candidate | None:
    """Return the candidate that contains most of a part, else one that it touches, or None.

    A part that only the second result outlines may lie in rejected candidates.
    """
    components = analysis.findings.components
    overlap = np.count_nonzero(components[inside])
    is_contained = part.by_first or 2 * overlap > np.count_nonzero(inside)
    region = inside if is_contained else ndimage.binary_dilation(inside)
    ids = components[region & (components > 0)]
    if not ids.size:
        return None
    candidate_id = int(np.bincount(ids).argmax())
    return next(
        candidate for candidate in analysis.findings.candidates if candidate.id == candidate_id
    )


def _undistinguished_text(analysis: Analysis, second: SecondResult) -> str:
    """Return which parts an adopted outline lacks, as the second result does not outline them."""
    missing = [r.display_name for r in known_regions(analysis) if r not in second.regions]
    names, pronoun = joined_with_and(missing), "it" if len(missing) == 1 else "them"
    return f" {second.name} does not outline {names}: paint {pronoun} (Shift+E)." if names else ""


def _result_name(analysis: Analysis, path: Path) -> str:
    """Return the readers of a result, else the name of its folder."""
    readers = dict.fromkeys(event.reader for event in analysis.review.events if event.reader)
    return ", ".join(readers) or result_folder(path).name
