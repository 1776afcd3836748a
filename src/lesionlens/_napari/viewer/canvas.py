"""The view itself: planes in radiological convention, orientation letters, scale bar, travel.

Layers lie in RAS+ millimetres (axis 0 grows to the patient's right, 1 to the front, 2 to the top).
With the camera's horizontal axis pointing left and the vertical one up, every plane is shown as
radiologists look at it: the patient's right on the left of axial and coronal planes, the face on
the left of sagittal ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from napari.components.overlays import TextOverlay

from lesionlens._napari.model.state import Plane

if TYPE_CHECKING:
    from napari.components import ViewerModel

ORDERS = {Plane.AXIAL: (2, 1, 0), Plane.CORONAL: (1, 2, 0), Plane.SAGITTAL: (0, 2, 1)}
"""napari's order of dimensions: the sliced one, then rows, then columns."""

LETTERS = {
    Plane.AXIAL: ("R", "L", "A", "P"),
    Plane.CORONAL: ("R", "L", "S", "I"),
    Plane.SAGITTAL: ("A", "P", "S", "I"),
}
"""At the left, right, top and bottom edge of the canvas."""

_PLACES = ("middle_left", "middle_right", "top_center", "bottom_center")
_CAPTION_COLOUR = (0.85, 0.87, 0.9, 1.0)
_LETTER_COLOUR = (1.0, 0.85, 0.35, 1.0)


def plane_of(order: tuple[int, ...]) -> Plane | None:
    """Return the plane that an order of dimensions shows, or None for one that is not ours."""
    return next((plane for plane, ours in ORDERS.items() if tuple(order[-3:]) == ours), None)


class Canvas:
    """Sets up one viewer for brains and moves its view."""

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._ready = False
        self._words = ""
        self._letters = [TextOverlay(position=place, box=False) for place in _PLACES]
        self._caption = TextOverlay(position="top_left", box=False)

    def set_up(self) -> None:
        """Turn the viewer to radiological convention, on black in every theme; letters appear."""
        if self._ready:
            return
        self._ready = True
        viewer = self._viewer
        camera = viewer.scene.camera
        camera.orientation = ("away", "up", "left")
        viewer.canvas.background_color_override = "black"
        overlays = viewer.canvas.overlays
        for place, letter in zip(_PLACES, self._letters, strict=True):
            name = f"lesionlens_{place}"
            if name not in overlays:
                letter.color = _LETTER_COLOUR
                letter.font_size = 13
                overlays[name] = letter
                letter.visible = True
        if "lesionlens_caption" not in overlays:
            self._caption.color = _CAPTION_COLOUR
            self._caption.font_size = 11
            overlays["lesionlens_caption"] = self._caption
            self._caption.visible = True
        overlays.scale_bar.visible = True
        overlays.scale_bar.font_size = 10
        overlays.scale_bar.box = False
        viewer.dims.events.order.connect(self._relabel)
        viewer.dims.events.ndisplay.connect(self._relabel)
        self._relabel()

    def tear_down(self) -> None:
        """Hear no more of the viewer."""
        if not self._ready:
            return
        self._ready = False
        self._viewer.dims.events.order.disconnect(self._relabel)
        self._viewer.dims.events.ndisplay.disconnect(self._relabel)

    def caption(self, words: str) -> None:
        """Say at the top left what is looked at: "sequence · plane"; no plane in 3-D."""
        self._words = words
        shown = words if self._viewer.dims.ndisplay == 2 else words.partition(" · ")[0]
        if self._caption.text != shown:
            self._caption.text = shown

    def show_plane(self, plane: Plane) -> None:
        """Look at a plane."""
        dims = self._viewer.dims
        if dims.ndim == 3 and tuple(dims.order) != ORDERS[plane]:
            dims.order = ORDERS[plane]

    def go_to(self, point_mm: tuple[float, float, float]) -> None:
        """Bring a point (RAS+ mm) onto the slice in all planes and into the middle of the view."""
        viewer = self._viewer
        if viewer.dims.ndim != 3:
            return
        for axis in range(3):
            viewer.dims.set_point(axis, float(point_mm[axis]))
        camera = viewer.scene.camera
        shown = np.asarray(point_mm)[list(viewer.dims.order)]
        if viewer.dims.ndisplay == 3:
            camera.center = tuple(float(v) for v in shown)

    def fit(self) -> None:
        """Fit the study into the view and go to its middle."""
        viewer = self._viewer
        viewer.reset_view()
        if viewer.dims.ndim == 3:
            for axis, (low, high, _) in enumerate(viewer.dims.range):
                viewer.dims.set_point(axis, (low + high) / 2)

    def look_around(self) -> None:
        """Fit the study in three dimensions, seen from the front, the left and a little above."""
        self._viewer.reset_view()
        self._viewer.scene.camera.set_view_direction((-0.35, -1.0, 0.55), (1.0, 0.0, 0.0))

    def _relabel(self) -> None:
        dims = self._viewer.dims
        plane = plane_of(dims.order) if dims.ndim == 3 and dims.ndisplay == 2 else None
        words = LETTERS[plane] if plane is not None else ("",) * 4
        for letter, text in zip(self._letters, words, strict=True):
            letter.text = text
        self.caption(self._words)
