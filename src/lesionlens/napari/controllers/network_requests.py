"""Requests to the network about its result: probe, single layers, masking a candidate."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lesionlens.base.geometry import as_vec3
from lesionlens.base.labels import Source
from lesionlens.base.run_context import RunContext
from lesionlens.napari.controllers.copies import keep_copy, set_aside
from lesionlens.napari.controllers.mark_acts import MarkActs
from lesionlens.napari.model.acts.measuring import DRAWING
from lesionlens.napari.model.acts.session import QUESTION
from lesionlens.napari.model.choices.choices import LayerChoice
from lesionlens.napari.model.overlays.on_demand import layer_view, probed
from lesionlens.napari.model.overlays.plain import plain_layers
from lesionlens.napari.model.state.state import State
from lesionlens.napari.model.wording.edits import FOCUS, missing_analysis_reason
from lesionlens.napari.qt.jobs import Jobs, problem_of
from lesionlens.napari.qt.latest_request import LatestRequest, RequestKey

_ADDED = "The network did not flag this candidate: it has no score that could change."
_DISPLACED = (
    " They are hidden: the scan is oblique, and napari's 2-D view would show them displaced. Their "
    "affine, and files saved from them, are correct."
)
_WAITING = "Waiting for the network's answer."
_OFF_IMAGE = "This position is outside the image: point at the brain to probe it."


class NetworkRequests(MarkActs):
    """Requests to the network; repeated ones run by `latest_request`, others as jobs."""

    jobs: Jobs
    latest_request: LatestRequest
    probing = False

    def probe(self, point_mm: tuple[float, float, float], *, moving: bool = False) -> bool:
        """Probe the attention of the voxel at a point (RAS+ mm).

        With `moving`, positions that cannot be probed are skipped silently.
        """
        state, result = self.session.state, self.session.state.result
        if state.analysis is None or state.overlays is None or result is None:
            hidden = self.read_controller.closed
            reason = _HIDDEN if hidden else f"{missing_analysis_reason(state, 'probe')}."
            return self._not_probed(reason, moving=moving)
        if state.editing is not None:
            return self._not_probed(DRAWING, moving=moving)
        grid, prepared = state.analysis.volumes.labels.grid, state.analysis.prepared
        voxel = grid.nearest_voxel(point_mm)
        if not grid.contains(voxel):
            return self._not_probed(_OFF_IMAGE, moving=moving)
        i, j, k = voxel.tolist()

        def task(context: RunContext) -> Any:
            return probed(result, prepared, (i, j, k))

        def on_result(response: Any) -> None:
            overlays = self.session.state.overlays
            if self.session.state.result is not result or overlays is None:
                return
            if isinstance(response, str):
                self.end_probe()
                self.session.decline(response)
            else:
                self.session.probe((i, j, k), replace(overlays, probe=response))
            self.session.clear_problem(QUESTION)

        def on_error(error: BaseException) -> None:
            if self.session.state.result is result and not moving:
                self.session.refused(problem_of(error, QUESTION))

        key, on_slow = RequestKey("probe", (id(result), i, j, k)), self._show_wait
        self.latest_request.submit(key, task, on_result, on_error, on_slow=on_slow)
        return True

    def _not_probed(self, reason: str, *, moving: bool) -> bool:
        """Report why a position is not probed, unless the pointer passes over it; return False."""
        if not moving:
            self.session.decline(reason)
        return False

    def _show_wait(self, waits: bool) -> None:
        """Notify that an answer takes long, unless another message is shown, or that it arrived."""
        if self.session.state.message == ("" if waits else _WAITING):
            self.session.notify(_WAITING if waits else "")

    def layer_choice(self, layer_choice: LayerChoice) -> None:
        """Compute the attention of one layer or head, and show it when it arrives."""
        state, result = self.session.state, self.session.state.result
        if state.analysis is None or result is None:
            return
        prepared = state.analysis.prepared

        def task(context: RunContext) -> Any:
            return layer_view(result, prepared, layer_choice)

        def on_result(view: Any) -> None:
            overlays = self.session.state.overlays
            if self.session.state.result is result and overlays is not None:
                self.session.layer_arrived(replace(overlays, layer_choice=(layer_choice, view)))
                self.session.clear_problem(QUESTION)

        def on_error(error: BaseException) -> None:
            choices = self.session.state.choices
            is_chosen = (choices.layer, choices.head) == (layer_choice.layer, layer_choice.head)
            if self.session.state.result is result and is_chosen:
                self.session.choose_layer(None)
                self.session.refused(problem_of(error, QUESTION))

        key, on_slow = RequestKey("layer", (id(result), layer_choice)), self._show_wait
        self.latest_request.submit(key, task, on_result, on_error, on_slow=on_slow)

    def ask_without(self) -> bool:
        """Run the network again with the candidate in focus occluded."""
        state, candidate = self.session.state, self.session.state.focused
        result = self.session.state.result
        if candidate is None or result is None:
            missing = state.analysis is None
            reason = missing_analysis_reason(state, "occlude a candidate") if missing else FOCUS
            return self.session.decline(f"{reason}.")
        if candidate.source is Source.READER:
            return self.session.decline(_ADDED)

        def task(context: RunContext) -> str:
            return str(result.what_if(candidate.id, context=context).text)

        def on_result(summary: str) -> None:
            if self.session.state.result is result:
                self.session.show_occluded_result(candidate.id, summary)
                self.session.notify(f"Without candidate {candidate.id}: {summary}")

        return self.jobs.start("Running again without it", task, on_result)

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

    def end_probe(self) -> None:
        """Close the probe."""
        overlays = self.session.state.overlays
        if overlays is None or overlays.probe is None:
            self.session.decline("No probe is shown.")
        else:
            self.session.probe(None, replace(overlays, probe=None))

    def probe_cursor(self, held: bool) -> None:
        """Probe the voxel under the pointer, and those it moves to while the key is held."""
        self.probing = held
        if held:
            self.probe_pointer()

    def probe_pointer(self, *, moving: bool = False) -> None:
        """Probe the voxel under the pointer now."""
        if not moving and not self.points_at_slice():
            return
        position = self.viewer.cursor.position
        if len(position) >= 3:
            self.probe(as_vec3(position[-3:]), moving=moving)
