"""napari's own canvas as the single view: planes, orientation letters, scale bar, travel.

Layers lie in RAS+ millimetres (axis 0 grows to the patient's right, 1 to the front, 2 to the top).
With the camera's horizontal axis pointing left and the vertical one up, every plane is shown as
radiologists look at it: the patient's right on the left of axial and coronal planes, the face on
the left of sagittal ones. napari's preferences, its transpose key or a layer's own transform can
turn that round at any time: that is put right at once, with a word to the reader, and the letters
are worked out from what is on the screen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.components.overlays import TextOverlay

from lesionlens.napari.model.geometry.planes import Edges, Plane, edges_of

if TYPE_CHECKING:
    from napari.components import ViewerModel

Point = tuple[float, float, float]
Box = tuple[Point, Point]

ORDERS = {Plane.AXIAL: (2, 1, 0), Plane.CORONAL: (1, 2, 0), Plane.SAGITTAL: (0, 2, 1)}
"""napari's order of dimensions: the sliced one, then rows, then columns."""

RADIOLOGICAL = ("away", "up", "left")
"""Where napari's depth, vertical and horizontal axes grow to on the screen."""

SPACE = 3
ROOM = 1.25
"""How much larger than a candidate the view must be that it is gone to in."""
_PLACES = ("middle_left", "middle_right", "top_center", "bottom_center")
_CAPTION = {"color": (0.85, 0.87, 0.9, 1.0), "font_size": 11}
_LETTER = {"color": (1.0, 0.85, 0.35, 1.0), "font_size": 13}
_BEHIND_WORDS = (0.0, 0.0, 0.0, 0.5)
"""A letter over a bright skull is read all the same."""
_BOXED = ("_brush_circle", "_zoom_box")
"""Overlays of napari's that have no words to put a box behind."""
_TRANSFORM = ("scale", "translate", "rotate", "shear", "affine")


def plane_of(order: tuple[int, ...]) -> Plane | None:
    """Return the plane that an order of dimensions shows, or None for one that is not ours.

    Examples
    --------
    >>> plane_of((2, 1, 0)), plane_of((0, 3, 2, 1)), plane_of((2, 0, 1))
    (<Plane.AXIAL: 'axial'>, <Plane.AXIAL: 'axial'>, None)
    """
    ours = tuple(axis - (len(order) - SPACE) for axis in order[-SPACE:])
    return next((plane for plane, wanted in ORDERS.items() if wanted == ours), None)


class SingleView:
    """Sets up napari's viewer for brains, says its sides and moves it."""

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._ready = False
        self._words = ""
        self._picture: Any = None
        self._fitted: tuple[float, ...] = ()
        self._dims, self._plane = 0, Plane.AXIAL
        self.turned: Callable[[], object] = lambda: None
        """Called once the view was turned by somebody else, and put right again."""
        self._letters = [self._overlay(place, place, _LETTER) for place in _PLACES]
        self._caption = self._overlay("caption", "top_left", _CAPTION)
        self._identity = self._overlay("identity", "top_right", _CAPTION)

    def _overlay(self, name: str, place: str, style: dict[str, Any]) -> TextOverlay:
        """Return words of ours on the canvas, hidden; an earlier panel's if there was one."""
        overlays, key = self._viewer.canvas.overlays, f"lesionlens_{name}"
        if key not in overlays:
            made = TextOverlay(position=place, box=True, box_color=_BEHIND_WORDS, **style)
            overlays[key] = made
        found: TextOverlay = overlays[key]
        return found

    def set_up(self) -> None:
        """Turn the viewer to radiological convention, on black in every theme; letters appear."""
        if not self._ready:
            self._ready = True
            self._show_overlays()
            for event in self._heard():
                event.connect(self._relabel)
            for event in self._turning():
                event.connect(self._on_turned)
            self._viewer.canvas.events.size.connect(self._on_size)
        self.set_right()

    def _heard(self) -> tuple[Any, ...]:
        """Return whatever can turn the view round."""
        dims, camera = self._viewer.dims.events, self._viewer.scene.camera.events
        return (dims.order, dims.ndim, dims.ndisplay, camera.orientation, camera.angles)

    def _turning(self) -> tuple[Any, ...]:
        """Return what puts the patient's sides elsewhere on the screen."""
        return (self._viewer.dims.events.order, self._viewer.scene.camera.events.orientation)

    def _on_turned(self) -> None:
        """Put right what napari's axes, its preferences or its transpose key turned round."""
        dims, camera = self._viewer.dims, self._viewer.scene.camera
        known, self._dims = self._dims, dims.ndim
        more = dims.ndim - SPACE
        if more < 0 or dims.ndisplay != 2 or max(dims.order[:more], default=-1) >= more:
            return
        if plane_of(dims.order) is None:
            if known != dims.ndim:  # layers came or went, and nobody turned anything
                self.show_plane(self._plane)
                return
            through = dims.order[-SPACE] - more
            self.show_plane(next(one for one, order in ORDERS.items() if order[0] == through))
            self.turned()
        elif tuple(str(axis) for axis in camera.orientation) != RADIOLOGICAL:
            self.set_right()
            self.turned()

    def _show_overlays(self) -> None:
        canvas, overlays = self._viewer.canvas, self._viewer.canvas.overlays
        canvas.background_color_override = "black"
        for words in (*self._letters, self._caption, self._identity):
            words.visible = True
        for name in _BOXED:
            if name in overlays:  # its box stays behind it on the picture, a black square
                overlays[name].box = False
        overlays.scale_bar.visible = True
        overlays.scale_bar.font_size = 10
        overlays.scale_bar.box = False

    def tear_down(self) -> None:
        """Hear no more of the viewer, and take off it the words that nobody would renew."""
        if not self._ready:
            return
        self._ready = False
        self.watch(None)
        for words in (*self._letters, self._caption, self._identity):
            words.visible = False
            words.text = ""
        for event in self._heard():
            event.disconnect(self._relabel)
        for event in self._turning():
            event.disconnect(self._on_turned)
        self._viewer.canvas.events.size.disconnect(self._on_size)

    def set_right(self) -> None:
        """Turn the view back to radiological convention, whatever turned it round."""
        camera = self._viewer.scene.camera
        if tuple(str(axis) for axis in camera.orientation) != RADIOLOGICAL:
            camera.orientation = RADIOLOGICAL
        self._relabel()

    def watch(self, picture: Any) -> None:
        """Take the layer whose voxels the letters speak of; its own transform counts."""
        if picture is self._picture:
            return
        for layer, connect in ((self._picture, False), (picture, True)):
            for name in _TRANSFORM if layer is not None else ():
                event = getattr(layer.events, name)
                (event.connect if connect else event.disconnect)(self._relabel)
        self._picture = picture
        if self._ready:
            self._relabel()

    def caption(self, words: str) -> None:
        """Report at the top left what is shown: "sequence · plane"; no plane in 3-D."""
        self._words = words
        shown = words if self._viewer.dims.ndisplay == 2 else words.partition(" · ")[0]
        if self._caption.text != shown:
            self._caption.text = shown

    def identify(self, lines: tuple[str, ...]) -> None:
        """Report at the top right who is shown and of when."""
        words = "\n".join(lines)
        if self._identity.text != words:
            self._identity.text = words

    def show_plane(self, plane: Plane) -> None:
        """Show a plane, at the same place and as near as before."""
        self._plane = plane
        dims, camera = self._viewer.dims, self._viewer.scene.camera
        more = dims.ndim - SPACE
        if more >= 0:
            order = (*range(more), *(axis + more for axis in ORDERS[plane]))
            if tuple(dims.order) != order:
                zoom = camera.zoom
                dims.order = order  # napari fits the view to it
                camera.zoom = zoom
                camera.center = tuple(float(dims.point[axis]) for axis in order[more:])

    def go_to(self, point_mm: Point, box_mm: Box | None = None) -> None:
        """Bring a point (RAS+ mm) onto the slice in all planes and into the middle of the view.

        Where `box_mm` (lower and upper corner) is larger than the view, the view widens.
        """
        viewer = self._viewer
        dims, camera = viewer.dims, viewer.scene.camera
        more = dims.ndim - SPACE
        if more < 0:
            return
        dims.set_point(tuple(range(more, dims.ndim)), tuple(float(v) for v in point_mm))
        shown = [axis - more for axis in dims.order[-SPACE:]]
        camera.center = tuple(float(point_mm[axis]) for axis in shown)
        if box_mm is not None and dims.ndisplay == 2:
            size_mm = np.abs(np.subtract(box_mm[1], box_mm[0]))[shown[-2:]]
            room = np.asarray(viewer.canvas.size) / (ROOM * np.maximum(size_mm, 1.0))
            camera.zoom = min(camera.zoom, float(room.min()))

    def fit(self) -> None:
        """Fit the study into the view and go to its middle."""
        viewer = self._viewer
        viewer.reset_view()
        if viewer.dims.ndim == SPACE:
            for axis, (low, high, _) in enumerate(viewer.dims.range):
                viewer.dims.set_point(axis, (low + high) / 2)
        self._fitted = self._pose()

    def _pose(self) -> tuple[float, ...]:
        """Return how near and where the camera looks on the slice."""
        camera = self._viewer.scene.camera
        return (float(camera.zoom), *(float(v) for v in camera.center[-2:]))

    def _on_size(self) -> None:
        """Fit the study into the new size, until the reader has moved or zoomed the view."""
        viewer = self._viewer
        if viewer.dims.ndisplay == SPACE or not self._fitted:
            return
        if np.allclose(self._pose(), self._fitted, rtol=1e-4, atol=1e-3):
            with viewer.events.reset_view.blocker():
                viewer.fit_to_view()
            self._fitted = self._pose()

    def look_around(self) -> None:
        """Fit the study in three dimensions, seen from the front, the left and a little above."""
        self._viewer.reset_view()
        self._viewer.scene.camera.set_view_direction((-0.35, -1.0, 0.55), (1.0, 0.0, 0.0))

    def _relabel(self) -> None:
        edges = self.edges()
        for letter, text in zip(self._letters, edges, strict=True):
            if letter.text != text:
                letter.text = text
        self.caption(self._words)

    def edges(self) -> Edges:
        """Return the patient's side at each edge of the canvas; empty letters in 3-D."""
        dims = self._viewer.dims
        more = dims.ndim - SPACE
        if more < 0 or dims.ndisplay != 2 or min(dims.order[-2:]) < more:
            return Edges()
        _, vertical, horizontal = (str(axis) for axis in self._viewer.scene.camera.orientation)
        down, right = np.eye(SPACE)[[axis - more for axis in dims.order[-2:]]]
        return edges_of(
            self._in_patient(right if horizontal == "right" else -right),
            self._in_patient(down if vertical == "down" else -down),
        )

    def _in_patient(self, step: Any) -> Any:
        """Return where a step on the canvas leads in the patient, through the picture's transform.

        Our arrays grow to the patient's right, front and top; the world does unless the layer was
        turned or mirrored in it.
        """
        if self._picture is None:
            return step
        origin = np.asarray(self._picture.data_to_world((0.0,) * SPACE))
        onto = np.column_stack([self._picture.data_to_world(e) - origin for e in np.eye(SPACE)])
        return np.linalg.solve(onto, step) * np.linalg.norm(onto, axis=0)
