"""Clicks and moves on napari's canvas, in addition to napari's own tools."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from napari.components import ViewerModel

from lesionlens.base.geometry import as_vec3
from lesionlens.base.records.findings import Point
from lesionlens.napari.controllers.actions import Actions
from lesionlens.napari.viewer.prompt_mouse import (
    PromptMouse,
    foreign_tool_idle,
    has_foreign_tool,
)

_NO_DEPTH = "A click in 3-D has no depth: return to the slices, then point."


class CanvasGestures:
    """Forwards the pointer on the canvas to the acts of one window."""

    def __init__(self, viewer: ViewerModel, acts: Actions) -> None:
        self._viewer, self._acts = viewer, acts
        viewer.mouse_drag_callbacks.insert(0, self._on_click)
        viewer.mouse_move_callbacks.append(self.probe_pointer)
        self._prompt_mouse = PromptMouse(viewer, acts.prompting)

    def release(self) -> None:
        """Disconnect from the pointer."""
        for callbacks, callback in (
            (self._viewer.mouse_drag_callbacks, self._on_click),
            (self._viewer.mouse_move_callbacks, self.probe_pointer),
        ):
            if callback in callbacks:
                callbacks.remove(callback)
        self._prompt_mouse.release()

    def _on_click(self, viewer: ViewerModel, event: Any) -> Iterator[None]:
        """Place a pending mark or split point; Shift probes, Ctrl adds a lesion.

        While a foreign layer's tool is active, only a click that an act is waiting for is handled.
        """
        if event.button != 1 or len(event.position) < 3:
            return
        prompting = self._acts.prompting.active
        if viewer.dims.ndisplay != 2:
            if "Control" in event.modifiers or self._acts.awaits_click or prompting:
                self._acts.session.decline(_NO_DEPTH)
            return
        if prompting:
            return
        point = as_vec3(event.position[-3:])
        if self._acts.awaits_click:
            with foreign_tool_idle(viewer):
                if not self._acts.place_mark(point):
                    self._acts.adder.add_split_point(point)
                yield  # until the button is released
        elif not has_foreign_tool(viewer):
            self._act_by_modifier(point, event.modifiers)

    def _act_by_modifier(self, point: Point, modifiers: Collection[str]) -> None:
        if "Shift" in modifiers:
            self._acts.probe(point)
        elif "Control" in modifiers and not self._acts.editing:
            self._acts.add_lesion_at(point)

    def probe_pointer(self, *_: object) -> None:
        """Probe the voxel under the pointer, which moved, while the key is held."""
        if self._acts.probing and self._viewer.dims.ndisplay == 2:
            self._acts.probe_pointer(moving=True)
