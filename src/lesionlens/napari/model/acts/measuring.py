"""Measurements by hand: part of the views, never of the result."""

from __future__ import annotations

from lesionlens.base.records.findings import Point
from lesionlens.napari.model.acts.session import ReviewSession
from lesionlens.napari.model.choices.views import ViewChoices
from lesionlens.napari.model.geometry.measures import Measure, MeasureKind

_INSTRUCTIONS = {
    MeasureKind.RULER: "Ruler: drag along a length, or click its ends. F3 ends.",
    MeasureKind.ANGLE: "Angle: click three points, the second at the apex, or drag the first arm. "
    "F4 ends.",
    MeasureKind.REGION: "Region: drag an ellipse, or click two corners; its statistics are shown "
    "beside it. F6 ends.",
}
DRAWING = "An outline is being drawn: finish it first (Shift+E)."


class MeasureActs:
    """Acts on the measurements of one session."""

    session: ReviewSession

    @property
    def views(self) -> ViewChoices:
        """The choices of the views."""
        return self.session.state.choices.views

    @property
    def editing(self) -> bool:
        """Whether an outline is being drawn."""
        return self.session.state.editing is not None

    def is_drawing(self) -> bool:
        """Whether an outline is being drawn, which keeps the image; notifies if so."""
        return self.session.refuses(DRAWING if self.editing else "")

    def choose_measure(self, kind: MeasureKind) -> None:
        """Select a measuring tool for the linked views, or deselect it."""
        views = self.views
        if self.is_drawing():
            return
        if views.measuring is kind:
            self.session.choose_views(measuring=None, measures=_finished(views.measures))
            self.session.notify("")
        else:
            measures = _finished(views.measures)
            self.session.choose_views(measuring=kind, measures=measures, layout=views.layout.linked)
            self.session.notify(_INSTRUCTIONS[kind])

    def begin_measure(self, point: Point, *, last_visible: bool = True) -> None:
        """Begin a measurement at a point (RAS+ mm), or continue the last one if it is visible."""
        views = self.views
        if views.measuring is None:
            return
        measures, started = views.measures, Measure(views.measuring, (point, point))
        last = measures[-1] if measures and last_visible else started
        if last.kind is views.measuring and last is not started:
            if last.empty:
                measures, started = measures[:-1], last.with_point(1, point)
            elif not last.complete:
                measures, started = measures[:-1], Measure(last.kind, (*last.points, point))
        self.session.choose_views(measures=(*_finished(measures), started))

    def move_measure(self, number: int, index: int, point: Point) -> None:
        """Move a point of a measurement."""
        measures = list(self.views.measures)
        if 0 <= number < len(measures):
            measures[number] = measures[number].with_point(index, point)
            self.session.choose_views(measures=tuple(measures))

    def end_measure(self) -> None:
        """Discard an unfinished measurement; a first point waits for the next click."""
        measures = self.views.measures
        if measures and len(measures[-1].points) == 2:
            measures, pending = measures[:-1], measures[-1:]
        else:
            pending = ()
        self.session.choose_views(measures=(*_finished(measures), *pending))

    def drop_point(self) -> None:
        """Discard a first point: the click was half of a double click."""
        self.session.choose_views(measures=_finished(self.views.measures))

    def remove_measure(self) -> None:
        """Remove the last measurement."""
        measures = self.views.measures
        if measures:
            self.session.choose_views(measures=measures[:-1])
        else:
            self.session.decline("Nothing is measured.")


def _finished(measures: tuple[Measure, ...]) -> tuple[Measure, ...]:
    """Return them without an angle of one arm, or a first point: neither has a value."""
    return tuple(measure for measure in measures if measure.complete and not measure.empty)
