"""Acts on the reader's marks, and steps through a worklist."""

from __future__ import annotations

from typing import Protocol

from napari.components import ViewerModel
from typing_extensions import override

from lesionlens.base.geometry import as_vec3
from lesionlens.base.records.analysis import Analysis
from lesionlens.napari.controllers.dialogs import Dialogs
from lesionlens.napari.controllers.read_controller import ReadController
from lesionlens.napari.model.acts.session import ReviewSession
from lesionlens.napari.model.acts.views import ViewActs
from lesionlens.napari.model.choices.views import Layout
from lesionlens.napari.model.state.state import State
from lesionlens.napari.preferences import Preferences


class WindowWorklist(Protocol):
    """The worklist of a window."""

    def step(self, by: int) -> bool:
        """Open the study that is `by` rows after the open one, before it if negative."""

    def name_reader(self, reader: str) -> None:
        """Set the reader's name if there was none."""

    def store_result(self, analysis: Analysis, preferences: Preferences) -> None:
        """Store an analysis of the list's open study in the list, without waiting for it."""


class MarkActs(ViewActs):
    """Acts on marks, and steps through a worklist."""

    dialogs: Dialogs

    def __init__(self, session: ReviewSession, viewer: ViewerModel) -> None:
        super().__init__(session)
        self.viewer = viewer
        self.read_controller = ReadController(session)
        self.worklist: WindowWorklist | None = None
        self.placing = False
        """Whether the next click on the canvas places a mark."""
        session.changed.connect(self._on_study)

    def _on_study(self, old: State, new: State) -> None:
        """Forget a pending mark with its study, and with the view that waits for the click."""
        layouts = old.choices.views.layout, new.choices.views.layout
        if new.study is not old.study or layouts[0] is not layouts[1]:
            self.placing = False

    @override
    def shown_layout(self) -> Layout:
        """Return the layout on the screen: the single view while it is in 3-D."""
        is_2d = self.viewer.dims.ndisplay == 2
        return super().shown_layout() if is_2d else Layout.SINGLE

    def mark_here(self) -> None:
        """Mark the position under the pointer."""
        if self.points_at_slice() and len(self.viewer.cursor.position) >= 3:
            self.placing = False
            self.read_controller.marking.mark(as_vec3(self.viewer.cursor.position[-3:]))

    def mark_by_mouse(self) -> None:
        """Mark the crosshair of linked views, else the next clicked position."""
        if self.shown_layout() is not Layout.SINGLE:
            self.read_controller.marking.mark(self.viewpoint.current.point_mm)
        elif self.read_controller.read_session is not None:
            self.placing = True
            self.session.notify("Click the position to mark; Esc cancels.")

    def place_mark(self, point_mm: tuple[float, float, float]) -> bool:
        """Place the pending mark at a click; False if none is pending."""
        was_pending, self.placing = self.placing, False
        if was_pending:
            self.session.notify("")
            self.read_controller.marking.mark(point_mm)
        return was_pending

    def unmark(self, uid: str = "") -> None:
        """Remove a mark, by default the last one."""
        self.read_controller.marking.remove_mark(uid or None)

    def step_study(self, by: int) -> None:
        """Go forward or back by a number of studies of the worklist."""
        worklist = self.worklist
        if worklist is None:
            self.session.decline("No worklist is open: choose Open…, Worklist….")
        else:
            self.leave_for(lambda: worklist.step(by))
