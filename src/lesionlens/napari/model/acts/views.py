"""Acts on the views: layouts, slices, window level, comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.findings import Point
from lesionlens.base.records.study import Study
from lesionlens.base.text import score_digits
from lesionlens.napari.model.acts.measuring import MeasureActs
from lesionlens.napari.model.acts.session import ReviewSession
from lesionlens.napari.model.choices.choices import Overlay, after
from lesionlens.napari.model.choices.views import DraggedRulers, Layout, WindowPreset
from lesionlens.napari.model.geometry.planes import Plane
from lesionlens.napari.model.geometry.rulers import NEAR_MM, Ruler, rulers_of
from lesionlens.napari.model.geometry.slices import Frame, Slices
from lesionlens.napari.model.geometry.viewpoint import SharedViewpoint
from lesionlens.napari.model.screen.board import frame_of, shown_grid, slices_of
from lesionlens.napari.model.state.events import PositionVisited, WindowPresetChosen
from lesionlens.napari.model.studies import last_layout
from lesionlens.napari.model.wording.candidates import considered_text
from lesionlens.napari.model.wording.edits import missing_analysis_reason, why_not_measured
from lesionlens.napari.model.wording.followup import missing_sequence_text

_ROW_LAYOUTS = (Layout.PAIR, Layout.TRIPLE, Layout.SINGLE)
_OFF_SLICE = "Point at the position on a slice of the open study first."
_NO_PRIOR = "No earlier examination is open: choose Open…, Compare with an earlier result…"
_NO_EVIDENCE = (
    "The contributions of the sequences were not saved with this result. Analyse again to see them."
)
_ONE_SEQUENCE = (
    "There is only one sequence: it contributes everything, so a map would show nothing more."
)
_ALONG_AXES = "Shown along the patient's axes: the diameters do not lie in an acquired slice."


class ViewActs(MeasureActs):
    """Acts on the views of one session."""

    def __init__(self, session: ReviewSession) -> None:
        self.session = session
        self.viewpoint = SharedViewpoint()
        self.renew_pointer: Callable[[], bool | None] = lambda: None
        """Updates the pointer; False if it is on no slice. Set by the window."""

    def leave_for(self, act: Callable[[], object]) -> bool:
        """Store unfinished work, then act."""
        return act() is not False

    def points_at_slice(self) -> bool:
        """Whether the pointer is on a slice; notifies if it is not."""
        return not self.session.refuses(_OFF_SLICE if self.renew_pointer() is False else "")

    # --- layouts --------------------------------------------------------------------------

    def shown_layout(self) -> Layout:
        """Return the layout on the screen."""
        return self.views.layout

    def show_layout(self, layout: Layout) -> None:
        """Show a layout, and remember it for studies of this kind."""
        study = self.session.state.study
        if layout is Layout.PRIOR and self._lacks_comparison():
            return
        if study is not None:
            self.session.choose_views(layout=layout)
            if layout is not Layout.PRIOR:  # other studies of the kind may have no prior
                last_layout.remember(study, layout)

    def hang(self, before: Study | None) -> None:
        """Choose the layout of a new study: the last one of its kind."""
        study = self.session.state.study
        layout = None if study is None or study is before else last_layout.recall(study)
        if layout is not None:
            self.session.choose_views(layout=layout)

    def toggle_layout(self, layout: Layout) -> None:
        """Show a layout, or the single view again."""
        self.show_layout(Layout.SINGLE if self.shown_layout() is layout else layout)

    def next_row_layout(self) -> None:
        """Show the next layout of: two in a row, three in a row, single view."""
        self.show_layout(after(_ROW_LAYOUTS, self.shown_layout()))

    def toggle_acquired_slices(self) -> None:
        """Switch between acquired slices, and slices along the patient's axes."""
        layout = self.shown_layout()
        if layout is Layout.SINGLE:
            self.session.choose_views(acquired=True)
            self.show_layout(Layout.ONE)
        elif layout is Layout.ONE:
            self.show_layout(Layout.SINGLE)
        else:
            self.session.choose_views(acquired=not self.views.acquired)

    def next_sequence(self) -> None:
        """Show the next sequence of the study."""
        study, current = self.session.state.study, self.session.state.choices.sequence
        if study is not None and study.series and not self._has_one_sequence():
            self.session.choose_sequence(after(tuple(study.series), current))

    def next_plane(self) -> None:
        """Show the next plane: axial, coronal, sagittal."""
        self.session.choose_plane(after(tuple(Plane), self.session.state.choices.plane))

    # --- slices ---------------------------------------------------------------------------

    def scroll(self, by: int) -> bool:
        """Go forward or back by a number of slices; False at the end."""
        slices, start = self._slices(), self.viewpoint.current.point_mm
        if slices is None:
            return False
        point = slices.stepped(start, by)
        self.viewpoint.move(point_mm=point)
        return point != start

    def show_slice(self, number: int) -> None:
        """Go to a slice of the shown plane, from 1."""
        slices = self._slices()
        if slices is not None:
            self.viewpoint.move(point_mm=slices.at(self.viewpoint.current.point_mm, number))

    def _slices(self) -> Slices | None:
        state = self.session.state
        return slices_of(shown_grid(state), frame_of(state), state.choices.plane)

    # --- brightness and comparison --------------------------------------------------------

    def apply_window_preset(self, window: WindowPreset) -> None:
        """Apply a window preset to all sequences."""
        self.session.choose_views(window=window)
        self.session.happened.emit(WindowPresetChosen(window))

    def hold_comparison(self, is_held: bool) -> None:
        """Show the comparison while held: a prior, else the previously shown sequence."""
        lacks = self._has_one_sequence if self.views.compared is None else self._lacks_comparison
        if not is_held or not lacks():
            self.session.choose_views(swapped=is_held)

    def _has_one_sequence(self) -> bool:
        """Whether the study has no other sequence to show; notifies if so."""
        study = self.session.state.study
        is_only = study is not None and len(study.series) == 1
        return self.session.refuses("The study has only one sequence." if is_only else "")

    def _lacks_comparison(self) -> bool:
        """Whether there is no comparison, or none of the shown sequence; notifies if so."""
        state, is_open = self.session.state, self.views.compared is not None
        return self.session.refuses(missing_sequence_text(state) if is_open else _NO_PRIOR)

    def toggle_prior(self) -> None:
        """Show the comparison beside this study, or the single view again."""
        if not self._lacks_comparison() and not self.is_drawing():
            is_shown = self.shown_layout() is Layout.PRIOR
            self.session.choose_views(layout=Layout.SINGLE if is_shown else Layout.PRIOR)

    # --- maps -----------------------------------------------------------------------------

    def next_evidence(self) -> None:
        """Show the contribution map of the next sequence; after the last, the attention."""
        state, maps = self.session.state, self.session.state.evidence_sequences
        current = state.choices.evidence if state.choices.overlay is Overlay.MAP else None
        if state.analysis is None:
            self.session.decline(f"{missing_analysis_reason(state, 'choose a map')}.")
        elif len(state.analysis.prepared.sequences) < 2:
            self.session.decline(_ONE_SEQUENCE)
        elif not maps:
            self.session.decline(_NO_EVIDENCE)
        elif not self.is_drawing():  # which hides maps
            self.session.choose_overlay(Overlay.MAP)
            self.session.choose_evidence(after((*maps, None), current))

    def go_to_point(self, point_mm: Point) -> None:
        """Centre every view on a point (RAS+ mm); no candidate comes into focus."""
        self.session.notify("")
        self.viewpoint.move(point_mm=point_mm, centre_mm=point_mm)
        self.session.happened.emit(PositionVisited(point_mm))

    def next_considered(self) -> None:
        """Go to the next dismissed region, cyclically."""
        analysis = self._required_analysis()
        if analysis is None:
            return
        regions, position = analysis.findings.considered, self.viewpoint.current.point_mm
        if not regions:
            self.session.decline("Nothing else was considered.")
            return
        matches = [n for n, region in enumerate(regions) if region.peak_mm == position]
        number = (matches[0] + 1) % len(regions) if matches else 0
        region = regions[number]
        self.go_to_point(region.peak_mm)
        message = f"Also considered, {number + 1} of {len(regions)}: {considered_text(region)}"
        self.session.notify(f"{message}, score {score_digits(region.score)}.")

    def _required_analysis(self) -> Analysis | None:
        """Return the analysis; without one, show the reason and return None."""
        state = self.session.state
        if state.analysis is None:
            self.session.decline(f"{missing_analysis_reason(state, 'go there')}.")
        return state.analysis

    def toggle_rulers(self) -> None:
        """Show or hide both diameters of the candidate in focus, going to their axial slice."""
        state = self.session.state
        candidate = state.focused
        if self.is_drawing():
            return
        if self.views.rulers and self.shown_layout() is not Layout.SINGLE:
            self.session.choose_views(rulers=False, dragged=None)
            return
        if candidate is None or state.analysis is None:
            self.session.decline(f"{why_not_measured(state)}.")
            return
        rulers = rulers_of(state.analysis, candidate)
        if not rulers:
            self.session.decline("The diameters of this candidate could not be measured.")
            return
        layout = self.views.layout.linked
        self.session.choose_views(rulers=True, dragged=None, layout=layout)
        if layout is not Layout.PLANES:  # diameters are axial: no other plane shows them
            self.session.choose_plane(Plane.AXIAL)
        x, y, z = ((a + b) / 2 for a, b in zip(rulers[0].start, rulers[0].end, strict=True))
        visible, visible_along_axes = (
            _on_one_slice(frame, rulers, (x, y, z))
            for frame in (frame_of(self.session.state), Frame.patient())
        )
        if visible_along_axes and not visible:
            layout = Layout.PLANES if layout is Layout.ONE else layout
            self.session.choose_views(layout=layout, acquired=False)
            self.session.notify(_ALONG_AXES)
        self.viewpoint.move(point_mm=(x, y, z))

    def drag_rulers(self, rulers: tuple[Ruler, ...]) -> None:
        """Show rulers while they are dragged."""
        candidate = self.session.state.focused
        if candidate is not None:
            self.session.choose_views(dragged=DraggedRulers(candidate.id, rulers))


def _on_one_slice(frame: Frame, rulers: Sequence[Ruler], point_mm: Point) -> bool:
    """Whether a frame's axial slice through a point (RAS+ mm) shows rulers."""
    ends = [end for ruler in rulers for end in (ruler.start, ruler.end)]
    depth = frame.depth(Plane.AXIAL, point_mm)
    return bool(np.abs(frame.depth(Plane.AXIAL, ends) - depth).max() <= NEAR_MM)
