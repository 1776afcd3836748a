"""Measurements by hand: part of the views, never of the result."""

from __future__ import annotations

from lesionlens.base.records.findings import Point
from lesionlens.napari.model.acts.session import ReviewSession
from lesionlens.napari.model.choices.views import ViewChoices
from lesionlens.napari.model.geometry.rulers import Measure

_INSTRUCTION = "Ruler: drag along a length, or click its ends. F3 ends."
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

    def measure_length(self) -> None:
        """Begin or end measuring lengths in the linked views."""
        views = self.views
        if self.is_drawing():
            return
        measures = _finished(views.measures)
        if views.measuring:
            self.session.choose_views(measuring=False, measures=measures)
            self.session.notify("")
        else:
            self.session.choose_views(measuring=True, measures=measures, layout=views.layout.linked)
            self.session.notify(_INSTRUCTION)

    def begin_measure(self, point: Point, *, last_visible: bool = True) -> None:
        """Begin a measurement at a point (RAS+ mm), or continue the last one if it is visible."""
        if not self.views.measuring:
            return
        measures, started = self.views.measures, Measure((point, point))
        if measures and last_visible and measures[-1].empty:
            measures, started = measures[:-1], measures[-1].with_point(1, point)
        self.session.choose_views(measures=(*_finished(measures), started))

    def move_measure(self, number: int, index: int, point: Point) -> None:
        """Move a point of a measurement."""
        measures = list(self.views.measures)
        if 0 <= number < len(measures):
            measures[number] = measures[number].with_point(index, point)
            self.session.choose_views(measures=tuple(measures))

    def end_measure(self) -> None:
        """End a drag; a first point waits for the next click."""
        measures = self.views.measures
        self.session.choose_views(measures=(*_finished(measures[:-1]), *measures[-1:]))

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
    """Return them without a first point, which has no value."""
    return tuple(measure for measure in measures if not measure.empty)
