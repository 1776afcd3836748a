"""Requests about a result: the contribution of a sequence, plain layers."""

from __future__ import annotations

from dataclasses import replace

from lesionlens.base.labels import MrSequence
from lesionlens.base.run_context import RunContext
from lesionlens.napari.controllers.copies import keep_copy, set_aside
from lesionlens.napari.controllers.mark_acts import MarkActs
from lesionlens.napari.model.acts.session import QUESTION
from lesionlens.napari.model.overlays.evidence import evidence_view
from lesionlens.napari.model.overlays.maps import MapView
from lesionlens.napari.model.overlays.plain import plain_layers
from lesionlens.napari.model.state.state import Notice, State
from lesionlens.napari.model.wording.edits import missing_analysis_reason
from lesionlens.napari.qt.jobs import Jobs, problem_of
from lesionlens.napari.qt.latest_request import LatestRequest, RequestKey

_DISPLACED = (
    " They are hidden: the scan is oblique, and napari's 2-D view would show them displaced. Their "
    "affine, and files saved from them, are correct."
)
_WAITING = "Waiting for the network's answer."


class NetworkRequests(MarkActs):
    """Requests to the network; repeated ones run by `latest_request`, others as jobs."""

    jobs: Jobs
    latest_request: LatestRequest

    def _show_wait(self, waits: bool) -> None:
        """Notify that an answer takes long, unless another message is shown, or that it arrived."""
        state = self.session.state
        if waits and not state.message:
            self.session.notify(_WAITING, Notice.WAITING)
        elif not waits and state.notice is Notice.WAITING:
            self.session.notify("")

    def show_evidence(self, sequence: MrSequence) -> None:
        """Compute the contribution map of a sequence, and show it when it arrives."""
        state, result = self.session.state, self.session.state.result
        if state.analysis is None or result is None:
            return

        def task(context: RunContext) -> MapView:
            explained = result.explain(context=context) if result.can_explain else result
            return evidence_view(explained.analysis, sequence)

        def on_result(view: MapView) -> None:
            overlays = self.session.state.overlays
            if self.session.state.result is result and overlays is not None:
                self.session.evidence_arrived(replace(overlays, evidence=(sequence, view)))
                self.session.clear_problem(QUESTION)

        def on_error(error: BaseException) -> None:
            current = self.session.state
            if current.result is result and current.choices.evidence is sequence:
                self.session.choose_evidence(None)
                self.session.refused(problem_of(error, QUESTION))

        key, on_slow = RequestKey("evidence", (id(result), sequence)), self._show_wait
        self.latest_request.submit(key, task, on_result, on_error, on_slow=on_slow)

    def add_layers(self) -> bool:
        """Add the result to napari as plain layers, for other plugins; a drawn outline with it."""
        return self.leave_for(self._add_layers)

    def _add_layers(self) -> bool:
        state = self.session.state
        analysis = state.analysis
        if analysis is None:
            return self.session.decline(f"{missing_analysis_reason(state, 'add its layers')}.")
        from napari.layers import Layer

        layers = [Layer.create(*data) for data in plain_layers(analysis)]
        self.viewer.layers.extend(layers)
        for layer in layers:
            keep_copy(layer, analysis.study)
        names = ", ".join(layer.name for layer in layers)
        hint = "" if any(layer.visible for layer in layers) else _DISPLACED
        self.session.notify(f"Added as layers, a copy: {names}.{hint}")
        return True

    def set_copies_aside(self, old: State, new: State) -> None:
        """Rename and hide copies of a study once another one is open."""
        if new.study is not None and new.study is not old.study:
            set_aside(self.viewer.layers, new.study)
