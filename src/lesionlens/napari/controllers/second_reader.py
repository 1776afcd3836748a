"""A second result of the study: comparison, navigation, adoption of parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.analysis.evaluation.agreement import Agreement, Disagreement
from lesionlens.analysis.findings import additions
from lesionlens.analysis.findings.edits import applied
from lesionlens.base.labels import DrawingMethod, ReviewState
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.findings import Candidate, Point
from lesionlens.base.run_context import RunContext
from lesionlens.base.text import millilitres
from lesionlens.napari.controllers.review_controller import ReviewController
from lesionlens.napari.model.acts.session import ReviewSession
from lesionlens.napari.model.acts.views import ViewActs
from lesionlens.napari.model.choices.choices import Overlay
from lesionlens.napari.model.choices.views import Layout
from lesionlens.napari.model.geometry.contours import on_screen
from lesionlens.napari.model.geometry.planes import Plane
from lesionlens.napari.model.geometry.slices import Picture
from lesionlens.napari.model.screen.board import frame_of, tiles_of
from lesionlens.napari.model.state.second import SecondResult
from lesionlens.napari.model.state.state import State
from lesionlens.napari.model.wording.second import disagreement_words, thin_words
from lesionlens.napari.qt.jobs import Jobs
from lesionlens.results.review.log import ReviewLog, new_tracking_uid
from lesionlens.results.review.reopen import reopen_folder, result_folder

InSight = Callable[[Plane, NDArray[np.float64]], bool]

_NONE = "There is no second result yet: open one with the menu entry Second result of this study."
_READING = "read the second result"
_SAME = "Both results agree: no part is outlined in only one of them."
_THIN = "No part is listed, but the outlines differ: {}."


class SecondReader:
    """The second result of one session.

    Parameters
    ----------
    views : ViewActs
        Acts on the views that show the disagreements.
    """

    def __init__(
        self,
        session: ReviewSession,
        review_controller: ReviewController,
        jobs: Jobs,
        views: ViewActs,
    ) -> None:
        self._session, self._review, self._jobs = session, review_controller, jobs
        self._views = views
        self._number = 0
        self._shown: Point | None = None
        """Position of the disagreement that was gone to, RAS+ mm; its number may change."""
        self._compared: Analysis | None = None
        self.in_sight: InSight = lambda *_: True
        """Returns whether a view shows any of some points, (N, 3) RAS+ mm, of a plane's slice."""

    def open(self, path: Path) -> bool:
        """Show another result of the open study beside it; accepts what `reopen_folder` does."""
        first = self._session.state.analysis
        if first is None:
            self._session.decline("Analyse the study, or reopen a result of it, first.")
            return False

        def task(context: RunContext) -> SecondResult:
            context.progress(_READING, 0.0)
            found = reopen_folder(path, first.study, first.prepared)
            context.check(_READING)
            second = SecondResult.of(_whose(found, path), applied(found), first)
            context.check(_READING)
            return second

        def done(second: SecondResult) -> str | None:
            if self._session.state.study is not first.study:
                return "The second result was discarded: another study is open."
            self._number, self._shown, self._compared = 0, None, first
            self._session.take_second(second)
            self.follow()
            many = len(second.agreement.disagreements)
            return f"{many} disagreements: F7 goes through them, F8 adopts the other outline."

        return self._jobs.start("Reading a second result", task, done)

    def close(self) -> None:
        """Close the second result."""
        if self._session.state.second is None:
            self._session.decline(_NONE)
        else:
            self._session.take_second(None)

    def follow(self) -> None:
        """Compare again after a change of the open result."""
        state = self._session.state
        if state.second is None or state.analysis is None or state.analysis is self._compared:
            return
        self._compared = state.analysis
        self._session.take_second(state.second.against(state.analysis))

    def step(self, by: int) -> None:
        """Go to the next or previous disagreement, cyclically."""
        second = self._session.state.second
        parts = () if second is None else second.agreement.disagreements
        if not parts:
            thin = "" if second is None else thin_words(second.agreement)
            same = _THIN.format(thin) if thin else _SAME
            self._session.decline(_NONE if second is None else same)
            return
        last = 0 if by > 0 and not self._number else self._number
        self._number = (last + by - 1) % len(parts) + 1
        part = parts[self._number - 1]
        self._session.notify(f"Disagreement {self._show(part)}. F8 adopts it.")

    def _show(self, part: Disagreement) -> str:
        """Go to a disagreement; return its number and description."""
        second = self._session.state.second
        count = 0 if second is None else len(second.agreement.disagreements)
        self._shown = part.point_mm
        self._session.show_contours()
        self._views.go_to_point(part.point_mm)
        return f"{part.number} of {count}: {disagreement_words(part)}"

    def visit(self, point_mm: Point) -> None:
        """Go to the disagreement at a point (RAS+ mm)."""
        second = self._session.state.second
        parts = () if second is None else second.agreement.disagreements
        found = next((part for part in parts if part.point_mm == point_mm), None)
        if found is not None:
            self._number = found.number - 1
            self.step(1)

    def take(self) -> bool:
        """Adopt the second result at the disagreement in view.

        It is the one at the crosshair of linked views, else the one that was gone to. If the views
        have left that one, they go to it again, and nothing is adopted yet.
        """
        return self._review.after_edit(self._take)

    def _meant(self) -> Disagreement | None:
        """Return the disagreement at the crosshair of linked views, else the one gone to."""
        state = self._session.state
        if state.second is None or state.analysis is None:
            return None
        found = state.second.agreement
        if state.choices.views.layout is not Layout.SINGLE:
            grid = state.analysis.volumes.labels.grid
            voxel = grid.nearest_voxel(self._views.viewpoint.now.point_mm, clip=True)
            number = int(found.parts[tuple(voxel)])
            if number:
                return found.disagreements[number - 1]
        return next((one for one in found.disagreements if one.point_mm == self._shown), None)

    def _take(self) -> bool:
        state = self._session.state
        second, analysis = state.second, state.analysis
        part = self._meant()
        if second is None or analysis is None or part is None:
            self._session.decline("Go to a disagreement first (F7).")
            return False
        here = self._views.viewpoint.now.point_mm
        if not seen_at(state, second.agreement, part, here, self.in_sight):
            self._session.decline(f"It was out of view. {self._show(part)}. F8 adopts it now.")
            return False
        if state.choices.overlay is Overlay.OFF:
            self._session.decline("The outlines are not shown: press T, look at both, then F8.")
            return False
        inside = second.agreement.parts == part.number
        candidate = _owner(analysis, part, inside)
        open_to = (0, 0 if candidate is None else candidate.id)
        inside &= np.isin(analysis.findings.components, open_to)
        taken_ml = analysis.volumes.labels.grid.volume_ml(inside)
        reader = self._review.reader
        uid = new_tracking_uid() if candidate is None else candidate.tracking_uid
        reason = f"{millilitres(taken_ml)} ml as in {second.name}"
        if candidate is not None:
            reason = self._session.reason_with(candidate, reason)

        def make(log: ReviewLog) -> None:
            outline = additions.with_part(analysis, uid, inside, second.labels)
            if candidate is None:
                log.add(outline, DrawingMethod.SEMIAUTOMATIC, reader=reader, reason=reason)
            else:
                log.mark(uid, ReviewState.EDITED, reader=reader, reason=reason, outline=outline)

        def then() -> None:
            self._number = part.number - 1  # the next disagreement now has this number
            self._session.notify(f"{millilitres(taken_ml)} ml adopted; U undoes that.")

        return self._review.change("Adopting an outline", make, then)


def seen_at(
    state: State, found: Agreement, part: Disagreement, point_mm: Point, in_sight: InSight
) -> bool:
    """Whether a slice through a point (RAS+ mm), as the views show it, cuts a disagreement."""
    analysis, choices = state.analysis, state.choices
    if analysis is None:
        return False
    parts, frame = Picture.of(found.parts, analysis.volumes.labels.grid), frame_of(state)
    planes = {tile.plane for tile in tiles_of(state, choices.views.layout)} or {choices.plane}
    for plane in planes:
        depth = float(frame.depth(plane, point_mm))
        cut = parts.cut(frame, plane, parts.number_at(frame, plane, depth), nearest=True)
        there = np.argwhere(cut.data == part.number).astype(np.float64)
        if len(there) and in_sight(plane, frame.in_patient(plane, on_screen(there, cut), depth)):
            return True
    return False


def _owner(analysis: Analysis, part: Disagreement, inside: Any) -> Candidate | None:
    """Return the candidate that contains most of a part, else one that it touches, or None.

    What only the second result outlines may lie in rejected candidates.
    """
    components = analysis.findings.components
    within = part.by_first or 2 * np.count_nonzero(components[inside]) > np.count_nonzero(inside)
    around = inside if within else ndimage.binary_dilation(inside)
    numbers = components[around & (components > 0)]
    if not numbers.size:
        return None
    number = int(np.bincount(numbers).argmax())
    return next(c for c in analysis.findings.candidates if c.id == number)


def _whose(found: Analysis, path: Path) -> str:
    """Return the readers of a result, else the name of its folder."""
    readers = dict.fromkeys(event.reader for event in found.review.events if event.reader)
    return ", ".join(readers) or result_folder(path).name
