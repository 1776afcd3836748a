"""Display choices: region, overlay, sequence, plane."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lesionlens.base.labels import MrSequence, Region
from lesionlens.napari.model.acts.editing import Editing
from lesionlens.napari.model.choices.choices import Overlay
from lesionlens.napari.model.choices.views import Layout
from lesionlens.napari.model.geometry.planes import Plane
from lesionlens.napari.model.state.events import SlicesRequested
from lesionlens.napari.model.wording.followup import missing_sequence_text


class Choosing(Editing):
    """Acts that change `Choices` and nothing else."""

    def choose_threshold(self, threshold: float) -> None:
        """List only candidates that score at least this."""
        self._choose(threshold=threshold)
        if self._state.choices.candidate not in self._state.listed_ids:
            self._choose(candidate=None)

    def choose_overlay(self, overlay: Overlay) -> None:
        """Choose the overlay: nothing, contours, or contours and the attention map."""
        if self._state.analysis is not None or self._state.preliminary is not None:
            self._choose(overlay=overlay, overlay_chosen=True)

    def choose_region(self, region: Region) -> None:
        """Show a region's contour and attention, if the study's sequences can show it."""
        analysis = self._state.analysis
        if analysis is None or region in analysis.prepared.regions:
            self._choose(region=region)

    def choose_evidence(self, sequence: MrSequence | None) -> None:
        """Show the contribution of a sequence; None for the attention."""
        self._choose(evidence=sequence if sequence in self._state.evidence_sequences else None)

    def choose_sequence(self, sequence: MrSequence) -> None:
        """Show a sequence; a prior that lacks it is no longer shown, which is stated."""
        study = self._state.study
        current = self._state.choices.sequence
        if study is not None and sequence in study.series and sequence is not current:
            self._choose(sequence=sequence, previous_sequence=current)
            missing, views = missing_sequence_text(self._state), self._state.choices.views
            if missing and (views.swapped or views.layout is Layout.PRIOR):
                self.notify(missing)

    def choose_views(self, **changes: Any) -> None:
        """Change choices of the views (`ViewChoices`)."""
        self._choose(views=replace(self._state.choices.views, **changes))
        if "layout" in changes:
            self.happened.emit(SlicesRequested())

    def choose_plane(self, plane: Plane) -> None:
        """Show a plane."""
        self._choose(plane=plane)

    def choose_opacity(self, opacity: float) -> None:
        """Set the opacity of maps, 0 to 1."""
        self._choose(opacity=min(max(opacity, 0.0), 1.0))

    def choose_unreliable(self, visible: bool) -> None:
        """Show or hide maps that failed their checks."""
        self._choose(unreliable=visible)

    def hold_hidden(self, *, hidden: bool) -> None:
        """Hide every overlay while a key is held."""
        self._choose(hidden=hidden)
