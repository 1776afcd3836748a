"""Acts of the reader that add candidates and draw outlines, as keys and buttons call them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lesionlens.base.records.findings import Point
from lesionlens.napari.controllers.lesion_adder import LesionAdder
from lesionlens.napari.model.acts.views import ViewActs
from lesionlens.napari.model.choices.tools import Limit
from lesionlens.napari.model.choices.views import Layout
from lesionlens.napari.model.screen.board import frame_of

if TYPE_CHECKING:
    from napari.components import ViewerModel

_STEP_MM = 2.0
_NOWHERE = (
    "Point at it first; or show linked views (Shift+F): Control, Shift and the arrows move their "
    "crosshair."
)
_SLICE_MM = 2.0
"""How far off the slice shown the pointer may be: it was there before the last turn."""


class EditActs(ViewActs):
    """Every act on outlines; `adder` does what they ask for."""

    adder: LesionAdder
    viewer: ViewerModel

    # --- candidates -----------------------------------------------------------------------

    def add_lesion(self) -> None:
        """Add the region that grows at the crosshair, or under the pointer of the single view."""
        point = self.pointed()
        if point is None:
            self.session.notify(_NOWHERE)
        else:
            self.adder.grow(point)

    def draw_lesion(self) -> None:
        """Draw a candidate by hand; Done adds it."""
        self.adder.draw()

    def merge(self) -> None:
        """Make the candidate in focus and the one nearest to it one."""
        self.adder.merge()

    def pointed(self) -> Point | None:
        """Return the crosshair of linked views, else the pointer; None where it is elsewhere."""
        crosshair = self.viewpoint.now.point_mm
        if self._is_linked():
            return crosshair
        if self.renew_pointer() is False:
            return None
        x, y, z = (float(v) for v in self.viewer.cursor.position[-3:])
        axis = self.session.state.choices.plane.through
        off = abs((x, y, z)[axis] - crosshair[axis])
        return (x, y, z) if off <= _SLICE_MM else None

    def _is_linked(self) -> bool:
        state = self.session.state
        shown = state.choices.views.layout is not Layout.SINGLE
        return shown and state.editing is None and self.viewer.dims.ndisplay == 2

    # --- the crosshair by keys ------------------------------------------------------------

    def crosshair_left(self) -> None:
        """Move the crosshair of linked views to the left of the screen."""
        self._move((-_STEP_MM, 0.0))

    def crosshair_right(self) -> None:
        """Move it to the right."""
        self._move((_STEP_MM, 0.0))

    def crosshair_up(self) -> None:
        """Move it up."""
        self._move((0.0, -_STEP_MM))

    def crosshair_down(self) -> None:
        """Move it down."""
        self._move((0.0, _STEP_MM))

    def _move(self, by: tuple[float, float]) -> None:
        state, point = self.session.state, np.asarray(self.viewpoint.now.point_mm)
        if state.study is None or not self._is_linked():
            return
        x, y, z = (float(v) for v in point + by @ frame_of(state).screen(state.choices.plane))
        self.viewpoint.move(point_mm=(x, y, z))

    # --- tools of the outline -------------------------------------------------------------

    def brush_ball(self) -> None:
        """Paint a ball, or a disc on the slice."""
        self.session.choose_tools(ball=not self.session.state.tools.ball)

    def brush_limit(self) -> None:
        """Paint anywhere, within a range of intensities, or of the network's probability."""
        kinds = tuple(Limit)
        now = kinds.index(self.session.state.tools.limit)
        self.session.choose_limit(kinds[(now + 1) % len(kinds)])

    def smooth(self) -> None:
        """Smooth the outline."""
        self.adder.smooth()

    def fill_holes(self) -> None:
        """Fill what the outline encloses."""
        self.adder.fill_holes()

    def remove_islands(self) -> None:
        """Drop its small parts."""
        self.adder.remove_islands()

    def interpolate(self) -> None:
        """Draw the slices left out between those drawn."""
        self.adder.interpolate()

    def split(self) -> None:
        """Split where two points say: begins, then takes the pointer twice."""
        if self.session.state.tools.points is None:
            self.adder.begin_split()
            return
        point = self.pointed()
        if point is None:
            self.session.notify("Point at a half of the outline, on the slice shown.")
        else:
            self.adder.point(point)

    def split_here(self) -> None:
        """Split at the slice shown."""
        self.adder.split_at(self.viewpoint.now.point_mm)
