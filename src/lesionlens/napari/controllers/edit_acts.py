"""Acts that add candidates and draw outlines, as called by keys and buttons."""

from __future__ import annotations

from lesionlens.base.geometry import as_vec3
from lesionlens.base.labels import Region
from lesionlens.base.records.findings import Point
from lesionlens.napari.controllers.lesion_adder import LesionAdder
from lesionlens.napari.controllers.mark_acts import MarkActs
from lesionlens.napari.controllers.prompting import Prompting
from lesionlens.napari.model.choices.choices import after
from lesionlens.napari.model.choices.tools import Limit
from lesionlens.napari.model.choices.views import Layout

_NO_POSITION = (
    "Ctrl-click the lesion, or point at it and press Shift+P; or put the crosshair of linked views "
    "there (Shift+F)."
)
_NO_SLICE = "No slice is shown in 3-D: return to the slices, then cut."
_NO_SLICES = "No slice is shown in 3-D: return to the slices, then interpolate."
_HIDDEN = "The analysis is hidden during your own read: Shift+X marks the lesion."
_NO_MARK = "You have not set a mark. Ctrl-click adds a lesion."
_NO_MARK_YET = "You have not set a mark: Shift+X marks the position under the pointer."
_MAX_SLICE_DISTANCE_MM = 2.0
"""Maximum distance of the pointer from the shown slice, as it may be from before scrolling."""


class EditActs(MarkActs):
    """Acts on outlines, implemented by `adder` and `prompting`."""

    adder: LesionAdder
    prompting: Prompting

    @property
    def awaits_click(self) -> bool:
        """Whether a split or a mark waits for a click on the image."""
        return self.placing or self.session.state.tools.points is not None

    @property
    def is_pointing(self) -> bool:
        """Whether a prompt is drawn, or a click on the image is awaited."""
        return self.awaits_click or self.prompting.is_drawing

    # --- candidates -----------------------------------------------------------------------

    def add_lesion(self) -> None:
        """Add the lesion at the crosshair, or under the pointer of the single view."""
        point = self.pointed()
        if point is None:
            self.session.decline(_NO_POSITION)
        else:
            self.add_lesion_at(point)

    def add_lesion_at(self, point_mm: Point) -> None:
        """Add the lesion at a point (RAS+ mm), unless the analysis is hidden."""
        if self.read_controller.closed:
            self.session.decline(_HIDDEN)
        else:
            self.adder.add(point_mm)

    def mark_to_candidate(self, uid: str = "") -> None:
        """Turn a mark into a candidate: the named one, else the last mark outside candidates."""
        marks = self.read_controller.marking.marks
        if not marks:
            self.session.decline(_NO_MARK_YET if self.read_controller.closed else _NO_MARK)
            return
        chosen = next((mark for mark in marks if mark.uid == uid), None)
        overlays = self.session.state.overlays
        outside = [m for m in marks if overlays is not None and not overlays.candidate_at(m.at_mm)]
        self.adder.from_mark((chosen or (outside or marks)[-1]).at_mm)

    def pointed(self) -> Point | None:
        """Return the crosshair of linked views, else the pointer; None if off the image."""
        return self.viewpoint.current.point_mm if self._is_linked() else self._under_pointer()

    def _under_pointer(self) -> Point | None:
        """Return the position under the pointer; None if it is off the image or outdated."""
        on_image, linked = self.renew_pointer(), self._is_linked()
        if on_image is False or (linked and on_image is None):
            return None
        point = as_vec3(self.viewer.cursor.position[-3:])
        axis = self.session.state.choices.plane.through
        distance_mm = abs(point[axis] - self.viewpoint.current.point_mm[axis])
        return point if linked or distance_mm <= _MAX_SLICE_DISTANCE_MM else None

    def _is_linked(self) -> bool:
        return self.shown_layout() is not Layout.SINGLE

    # --- tools of the outline -------------------------------------------------------------

    def brush_ball(self) -> None:
        """Switch between a ball, and a disc on the slice."""
        self.session.choose_tools(ball=not self.session.state.tools.ball)

    def brush_limit(self) -> None:
        """Choose the next brush limit: none, intensity range, probability range if it is known."""
        analysis = self.session.state.analysis
        is_known = analysis is not None and Region.WT in analysis.volumes.probability
        limits = [limit for limit in Limit if is_known or limit is not Limit.PROBABILITY]
        self.session.choose_limit(after(limits, self.session.state.tools.limit))

    def split(self) -> None:
        """Begin a split, or take the pointer as one of its points, else linked views' crosshair."""
        if self.session.state.tools.points is None:
            self.adder.begin_split()
            return
        point = self._under_pointer() or self.pointed()
        if point is None:
            self.session.decline("Point at one half of the outline, on the slice shown.")
        else:
            self.adder.add_split_point(point)

    def split_here(self) -> None:
        """Split the outline at the slice shown."""
        if self.viewer.dims.ndisplay != 2:
            self.session.decline(_NO_SLICE)
        else:
            self.adder.split_at(self.viewpoint.current.point_mm)

    def interpolate(self) -> None:
        """Interpolate the slices between drawn ones, in the plane shown."""
        if self.viewer.dims.ndisplay != 2:
            self.session.decline(_NO_SLICES)
        else:
            self.adder.interpolate()

    def cancel_pointing(self) -> None:
        """Drop the prompt being drawn, or a split or a mark that waits for a click."""
        if not self.is_pointing:
            self.session.decline("No prompt is drawn, and no split or mark waits for a click.")
            return
        self.prompting.end_stroke()
        self.placing = False
        self.session.choose_tools(points=None)
        self.session.notify("")
