"""What clicks and moves on napari's canvas do, beside its own tools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lesionlens.napari.controllers.actions import Actions
from lesionlens.napari.viewer.prompt_mouse import PromptMouse

if TYPE_CHECKING:
    from napari.components import ViewerModel


class CanvasGestures:
    """Forwards the pointer on the canvas to the acts of one window.

    Parameters
    ----------
    viewer : ViewerModel
        Whose canvas it is.
    acts : Actions
        What is done.
    """

    def __init__(self, viewer: ViewerModel, acts: Actions) -> None:
        self._viewer, self._acts = viewer, acts
        viewer.mouse_drag_callbacks.append(self._on_click)
        viewer.mouse_move_callbacks.append(self._on_move)
        self._prompts = PromptMouse(viewer, lambda: acts.prompting.held, acts.prompting.take)

    def release(self) -> None:
        """Hear the pointer no more."""
        for callbacks, ours in (
            (self._viewer.mouse_drag_callbacks, self._on_click),
            (self._viewer.mouse_move_callbacks, self._on_move),
        ):
            if ours in callbacks:
                callbacks.remove(ours)
        self._prompts.release()

    def _on_click(self, _: Any, event: Any) -> None:
        """Place a mark that waits, or a point where to split; Shift asks, Ctrl adds a lesion."""
        if event.button != 1 or len(event.position) != 3 or self._acts.prompting.held:
            return
        i, j, k = (float(v) for v in event.position)
        if self._acts.place_mark((i, j, k)):
            return
        if "Shift" in event.modifiers:
            self._acts.probe((i, j, k))
        elif self._acts.session.state.editing is not None:
            self._acts.adder.point((i, j, k))
        elif "Control" in event.modifiers:
            self._acts.adder.grow((i, j, k))

    def _on_move(self, _: Any, __: Any) -> None:
        """While the probe's key is held, every voxel that the pointer comes to is asked."""
        if self._acts.probing:
            self._acts.probe_pointer(moving=True)
