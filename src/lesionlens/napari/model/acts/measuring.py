"""What the reader measures by hand: kept with the views, never with the result."""

from __future__ import annotations

from lesionlens.base.records.findings import Point
from lesionlens.napari.model.acts.session import ReviewSession
from lesionlens.napari.model.choices.views import Layout
from lesionlens.napari.model.geometry.measures import Measure, MeasureKind

_HOW = {
    MeasureKind.RULER: "Ruler: drag along a length. F3 ends.",
    MeasureKind.ANGLE: "Angle: drag along one arm, then drag the end of the other. F4 ends.",
    MeasureKind.REGION: "Region: drag to draw an ellipse; its statistics are shown beside it. F6 "
    "ends.",
}


class MeasureActs:
    """Acts on the measures of one session."""

    session: ReviewSession

    def choose_measure(self, kind: MeasureKind) -> None:
        """Let the pointer measure this in the linked views, or put the tool away."""
        state = self.session.state
        views = state.choices.views
        if state.study is None:
            self.session.notify("There is no study to measure in yet.")
        elif state.editing is not None:
            self.session.notify("An outline is being edited: finish it first (Shift+E).")
        elif views.measuring is kind:
            self.session.choose_views(measuring=None)
            self.session.notify("")
        else:
            layout = Layout.ONE if views.layout is Layout.SINGLE else views.layout
            self.session.choose_views(measuring=kind, layout=layout)
            self.session.notify(_HOW[kind])

    def begin_measure(self, at: Point) -> None:
        """Begin a measure at a point (RAS+ mm), or the second arm of an angle."""
        views = self.session.state.choices.views
        if views.measuring is None:
            return
        kept, last = views.measures, views.measures[-1] if views.measures else None
        begun = Measure(views.measuring, (at, at))
        if last is not None and not last.complete and views.measuring is last.kind:
            kept, begun = kept[:-1], Measure(last.kind, (*last.points, at))
        self.session.choose_views(measures=(*kept, begun))

    def move_measure(self, index: int, which: int, at: Point) -> None:
        """Move a point of a measure."""
        measures = list(self.session.state.choices.views.measures)
        if 0 <= index < len(measures):
            measures[index] = measures[index].with_point(which, at)
            self.session.choose_views(measures=tuple(measures))

    def end_measure(self) -> None:
        """Leave out what was clicked and not drawn."""
        measures = self.session.state.choices.views.measures
        self.session.choose_views(measures=tuple(one for one in measures if not one.empty))

    def remove_measure(self) -> None:
        """Take the last measure away."""
        measures = self.session.state.choices.views.measures
        if measures:
            self.session.choose_views(measures=measures[:-1])
        else:
            self.session.notify("Nothing is measured.")
