"""Prompts by the mouse on napari's canvas while their key is held."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from napari.components import ViewerModel

from lesionlens.base.geometry import as_vec3
from lesionlens.base.records.findings import Point
from lesionlens.napari.colours import PROMPT_COLOURS
from lesionlens.napari.controllers.prompting import Prompting
from lesionlens.napari.loading import KEY
from lesionlens.napari.model.choices.gestures import (
    STILL_PX,
    Gesture,
    gesture_of,
    line_of,
    switched,
    traced,
)
from lesionlens.napari.viewer.canvas_strokes import CanvasStrokes, Strokes
from lesionlens.napari.viewer.napari_callbacks import ReplacedCallbacks
from lesionlens.napari.viewer.single import SPACE, patient_axes

_TRAIL = "lesionlens_trail"
_PAN_ZOOM = "pan_zoom"
_NAPARI_ZOOM = "double_click_to_zoom"
_MODIFIER_NAMES = ("Alt", "Shift", "Control")
"""Names of vispy's keys, which compare equal to them but have other texts."""


class PromptMouse:
    """Handles the left button on napari's canvas."""

    def __init__(self, viewer: ViewerModel, prompting: Prompting) -> None:
        self._viewer, self._prompting = viewer, prompting
        self._trail = CanvasStrokes(viewer, _TRAIL)
        self._stroke: object | None = None
        """Identifies the stroke being drawn."""
        self._mouse_pan = True
        """Whether the camera follows the pointer between strokes."""
        prompting.stroke_ended.connect(self._on_stroke_ended)
        viewer.mouse_drag_callbacks.insert(0, self._on_drag)
        self._double_click = ReplacedCallbacks(
            viewer.mouse_double_click_callbacks, _NAPARI_ZOOM, self._on_double_click
        )

    def release(self) -> None:
        """Disconnect, and restore napari's double click."""
        if self._on_drag in self._viewer.mouse_drag_callbacks:
            self._viewer.mouse_drag_callbacks.remove(self._on_drag)
        self._double_click.restore()
        self._prompting.end_stroke()
        self._prompting.stroke_ended.disconnect(self._on_stroke_ended)
        self._trail.release()

    def _on_double_click(self, viewer: ViewerModel, event: Any) -> None:
        """Zoom as napari does; while prompting, the second of two quick clicks prompts too."""
        if not self._prompting.active:
            for zoom in self._double_click.napari_callbacks:
                zoom(viewer, event)
        elif event.button == 1 and self._is_2d(event):
            modifiers = switched(_held(event), excluding=self._prompting.excluding)
            point = as_vec3(event.position[-3:])
            self._prompting.add_gesture(gesture_of([point], modifiers, is_drag=False))

    def _is_2d(self, event: Any) -> bool:
        return self._viewer.dims.ndisplay == 2 and len(event.position) >= SPACE

    def _on_drag(self, _: Any, event: Any) -> Iterator[None]:
        if event.button != 1 or not self._is_2d(event) or not self._prompting.active:
            return
        with foreign_tool_idle(self._viewer):
            gesture = yield from self._drawn(event)
        if gesture is not None:
            self._prompting.add_gesture(gesture)

    def _drawn(self, event: Any) -> Generator[None, None, Gesture | None]:
        """Follow the pointer until it is released; None if the stroke is dropped."""
        stroke = self._begin()
        event.handled = True
        _, down, right = patient_axes(self._viewer.dims)
        start, max_distance = np.asarray(event.pos, float), 0.0
        path = [as_vec3(event.position[-3:])]
        modifiers = switched(_held(event), excluding=self._prompting.excluding)
        try:
            yield
            while self._stroke is stroke:
                max_distance = max(
                    max_distance, float(np.abs(np.asarray(event.pos, float) - start).max())
                )
                if as_vec3(event.position[-3:]) != path[-1]:
                    path.append(as_vec3(event.position[-3:]))
                event.handled = True
                if event.type != "mouse_move":  # Qt omits moves, but not the release
                    break
                if max_distance > STILL_PX:
                    self._show(path, modifiers)
                yield
            is_dropped = self._stroke is not stroke
        finally:
            if self._stroke is stroke:
                self._prompting.end_stroke()
        if is_dropped:
            return None
        is_drag = max_distance > STILL_PX
        prompt_path = traced(
            [(point[right], point[down]) for point in path], modifiers, is_drag=is_drag
        )
        points = [list(path[0]) for _ in prompt_path]
        for point, (x, y) in zip(points, prompt_path, strict=True):
            point[right], point[down] = x, y
        return gesture_of([as_vec3(point) for point in points], modifiers, is_drag=is_drag)

    def _begin(self) -> object:
        """Begin a stroke, during which the camera does not move; return its identity."""
        self._prompting.begin_stroke()
        camera = self._viewer.scene.camera
        self._mouse_pan, camera.mouse_pan = camera.mouse_pan, False
        self._stroke = object()
        return self._stroke

    def _on_stroke_ended(self) -> None:
        if self._stroke is None:  # it is drawn on linked views
            return
        self._stroke = None
        self._viewer.scene.camera.mouse_pan = self._mouse_pan
        if self._trail.strokes is not None:
            self._trail.draw(None)

    def _show(self, path: list[Point], modifiers: set[str]) -> None:
        _, down, right = patient_axes(self._viewer.dims)
        line = line_of([(point[right], point[down]) for point in path], modifiers)
        colour = np.array([*PROMPT_COLOURS["Alt" not in modifiers], 1.0], np.float32)
        segment_starts = np.arange(len(line) - 1, dtype=np.uint32)
        self._trail.draw(
            Strokes(
                np.array(line, np.float32),
                np.tile(colour, (len(line), 1)),
                np.stack([segment_starts, segment_starts + 1], axis=1),
            )
        )


def _held(event: Any) -> set[str]:
    """Return the names of the modifiers that are held."""
    return {name for name in _MODIFIER_NAMES if name in event.modifiers}


def has_foreign_tool(viewer: ViewerModel) -> bool:
    """Whether a foreign layer is active with a tool of napari, such as its brush."""
    layer = _foreign_layer(viewer)
    return layer is not None and str(getattr(layer, "mode", _PAN_ZOOM)) != _PAN_ZOOM


@contextmanager
def foreign_tool_idle(viewer: ViewerModel) -> Iterator[None]:
    """Deselect a foreign layer, to whose tool napari would pass the pointer as well."""
    selection, layer = viewer.layers.selection, _foreign_layer(viewer)
    if layer is not None:
        selection.active = None
    try:
        yield
    finally:
        if layer is not None and selection.active is None and layer in viewer.layers:
            selection.active = layer


def _foreign_layer(viewer: ViewerModel) -> Any:
    """Return the active layer if it is not of LesionLens, else None."""
    layer: Any = viewer.layers.selection.active
    return None if layer is None or KEY in layer.metadata else layer
