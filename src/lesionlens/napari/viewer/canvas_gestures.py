"""Clicks and moves on napari's canvas, in addition to napari's own tools."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from napari.components import ViewerModel

from lesionlens.base.geometry import as_vec3
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
        self._prompt_mouse = PromptMouse(viewer, acts.prompting)

    def release(self) -> None:
        """Disconnect from the pointer."""
        if self._on_click in self._viewer.mouse_drag_callbacks:
            self._viewer.mouse_drag_callbacks.remove(self._on_click)
        self._prompt_mouse.release()

    def _on_click(self, viewer: ViewerModel, event: Any) -> Iterator[None]:
        """Place a pending mark or split point; Ctrl adds a lesion.

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
        elif (
            "Control" in event.modifiers and not self._acts.editing and not has_foreign_tool(viewer)
        ):
            self._acts.add_lesion_at(point)
