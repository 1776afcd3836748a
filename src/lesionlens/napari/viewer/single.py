"""napari's canvas as the single view: planes, orientation letters, scale bar, navigation.

Layers are in RAS+ millimetres (axis 0 grows to the patient's right, 1 to the front, 2 to the top).
With the camera's horizontal axis pointing left and the vertical one up, planes follow radiological
convention: the patient's right on the left of axial and coronal planes, the face on the left of
sagittal ones. napari's preferences, its transpose key or a layer's transform can change that at any
time: the letters are computed from the screen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from napari.components import Dims, ViewerModel
from napari.components.overlays import TextOverlay
from napari.layers import Image
from numpy.typing import NDArray

from lesionlens.base.geometry import as_vec3
from lesionlens.base.records.findings import Point
from lesionlens.base.text import abbreviated_list
from lesionlens.napari.loading import KEY
from lesionlens.napari.model.geometry.planes import Edges, Plane, edges_of
from lesionlens.napari.viewer.identity_text import LETTER_POINTS, IdentityText, fitted_caption

Box = tuple[Point, Point]

ORDERS = {Plane.AXIAL: (2, 1, 0), Plane.CORONAL: (1, 2, 0), Plane.SAGITTAL: (0, 2, 1)}
"""napari's order of dimensions: sliced axis, rows, columns."""

RADIOLOGICAL = ("away", "up", "left")
"""Directions of napari's depth, vertical and horizontal axes on the screen."""

SPACE = 3
_FITTED = 0.95
"""Part of the view that a fitted study takes, as napari's."""
ROOM = 1.25
"""Minimum size of the view, relative to the candidate that it centres."""
_LETTER_POSITIONS = ("middle_left", "middle_right", "top_center", "bottom_center")
_CAPTION_STYLE = {"color": (0.85, 0.87, 0.9, 1.0), "font_size": 11}
_LETTER_STYLE = {"color": (1.0, 0.85, 0.35, 1.0), "font_size": LETTER_POINTS}
_TEXT_BACKGROUND = (0.0, 0.0, 0.0, 0.5)
"""Background of texts, for legibility over a bright skull."""
_BOXLESS_OVERLAYS = ("_brush_circle", "_zoom_box")
"""napari's overlays without text, which get no background."""
TRANSFORM = ("scale", "translate", "rotate", "shear", "affine")


def patient_axes(dims: Dims) -> list[int]:
    """Return the patient's axis through the slice, then down and across it; others are negative."""
    return [axis - dims.ndim + SPACE for axis in dims.order[-SPACE:]]


def plane_of(order: tuple[int, ...]) -> Plane | None:
    """Return the plane of an order of dimensions, or None for any other order.

    Examples
    --------
    >>> plane_of((2, 1, 0)), plane_of((0, 3, 2, 1)), plane_of((2, 0, 1))
    (<Plane.AXIAL: 'axial'>, <Plane.AXIAL: 'axial'>, None)
    """
    spatial_order = tuple(axis - (len(order) - SPACE) for axis in order[-SPACE:])
    return next(
        (plane for plane, plane_order in ORDERS.items() if plane_order == spatial_order), None
    )


class SingleView:
    """Sets up napari's viewer, labels its sides and moves it."""

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._ready = False
        self._caption_text = ""
        self._picture: Any = None
        self._fitted_pose: tuple[float, ...] = ()
        self._centred: tuple[Point, Box | None] | None = None
        self._plane = Plane.AXIAL
        self._letters = [self._overlay(edge, edge, _LETTER_STYLE) for edge in _LETTER_POSITIONS]
        self._caption = self._overlay("caption", "top_left", _CAPTION_STYLE)
        self._identity = IdentityText(
            viewer, lambda end: self._overlay(f"identity_{end}", "top_right", _CAPTION_STYLE)
        )

    def _overlay(self, name: str, position: str, style: dict[str, Any]) -> TextOverlay:
        """Return a hidden text overlay; that of an earlier panel is reused."""
        overlays, key = self._viewer.canvas.overlays, f"lesionlens_{name}"
        if key not in overlays:
            created = TextOverlay(position=position, box=True, box_color=_TEXT_BACKGROUND, **style)
            overlays[key] = created
        overlay: TextOverlay = overlays[key]
        return overlay

    def set_up(self) -> None:
        """Set the viewer to radiological convention on black, and show the letters."""
        if not self._ready:
            self._ready = True
            self._show_overlays()
            for event, callback in self._events():
                event.connect(callback)
        self.restore_orientation()

    def _events(self) -> tuple[tuple[Any, Callable[..., None]], ...]:
        """Return the events of napari that the view follows, each with its callback."""
        dims, camera = self._viewer.dims.events, self._viewer.scene.camera.events
        turning = (dims.order, dims.ndim, dims.ndisplay, camera.orientation, camera.angles)
        return (
            *((event, self._relabel) for event in turning),
            (dims.ndim, self._on_ndim),
            (self._viewer.canvas.events.size, self._on_size),
            (self._viewer.layers.events, self._on_layer),
        )

    def _on_ndim(self) -> None:
        """Show the plane again after layers of more dimensions came or went."""
        if self._viewer.dims.ndisplay == 2 and plane_of(self._viewer.dims.order) is None:
            self.show_plane(self._plane)

    def _show_overlays(self) -> None:
        canvas, overlays = self._viewer.canvas, self._viewer.canvas.overlays
        canvas.background_color_override = "black"
        for text_overlay in (*self._letters, self._caption):
            text_overlay.visible = True
        for name in _BOXLESS_OVERLAYS:
            if name in overlays:  # its box would stay on the image as a black square
                overlays[name].box = False
        overlays.scale_bar.visible = True
        overlays.scale_bar.font_size = 10
        overlays.scale_bar.box = False

    def tear_down(self) -> None:
        """Disconnect from the viewer, and remove the texts."""
        if not self._ready:
            return
        self._ready = False
        self.watch(None)
        for text_overlay in (*self._letters, self._caption):
            text_overlay.visible = False
            text_overlay.text = ""
        self._identity.show((), "")
        for event, callback in self._events():
            event.disconnect(callback)

    def restore_orientation(self) -> None:
        """Restore radiological convention."""
        camera = self._viewer.scene.camera
        if tuple(str(axis) for axis in camera.orientation) != RADIOLOGICAL:
            camera.orientation = RADIOLOGICAL
        self._relabel()

    def watch(self, picture: Any) -> None:
        """Set the layer from whose transform the letters are computed."""
        if picture is self._picture:
            return
        for layer, connect in ((self._picture, False), (picture, True)):
            for name in TRANSFORM if layer is not None else ():
                event = getattr(layer.events, name)
                (event.connect if connect else event.disconnect)(self._relabel)
        self._picture = picture
        if self._ready:
            self._relabel()

    def caption(self, text: str) -> None:
        """Show "sequence · plane" at the top left, without the plane in 3-D.

        A second line names visible images that are not the study's: they may hide it.
        """
        self._caption_text = text
        visible_text = text if self._viewer.dims.ndisplay == 2 else text.partition(" · ")[0]
        names = [
            layer.name
            for layer in self._viewer.layers
            if isinstance(layer, Image) and layer.visible and KEY not in layer.metadata
        ]
        if text and names:
            visible_text += f"\nwith {abbreviated_list(names, 3)}"
        shown_text, points = fitted_caption(visible_text, float(self._viewer.canvas.size[1]))
        if (self._caption.text, self._caption.font_size) != (shown_text, points):
            self._caption.font_size = points
            self._caption.text = shown_text
            self.identify(self._identity.lines)

    def _on_layer(self, event: Any) -> None:
        if event.type in ("inserted", "removed", "visible", "name"):
            self.caption(self._caption_text)

    def identify(self, lines: tuple[str, ...]) -> None:
        """Show the patient's identity at the top right."""
        self._identity.show(lines if self._ready else (), self._caption.text)

    def show_plane(self, plane: Plane) -> None:
        """Show a plane, with the same position and zoom."""
        self._plane = plane
        dims, camera = self._viewer.dims, self._viewer.scene.camera
        extra_dims = dims.ndim - SPACE
        if extra_dims >= 0:
            order = (*range(extra_dims), *(axis + extra_dims for axis in ORDERS[plane]))
            if tuple(dims.order) != order:
                zoom, was_fitted = camera.zoom, self._is_fitted()
                dims.order = order  # napari fits the view to it
                camera.zoom = zoom
                self._centre(as_vec3(dims.point[extra_dims:]), None, keep_fitted=was_fitted)

    def go_to(self, point_mm: Point, box_mm: Box | None = None) -> None:
        """Go to the slices of a point (RAS+ mm), and centre it.

        The view is zoomed out if `box_mm` (lower and upper corner) is larger.
        """
        dims = self._viewer.dims
        extra_dims = dims.ndim - SPACE
        if extra_dims < 0:
            return
        was_fitted = self._is_fitted()
        dims.set_point(tuple(range(extra_dims, dims.ndim)), tuple(float(v) for v in point_mm))
        self._centre(point_mm, box_mm, keep_fitted=was_fitted)

    def _centre(self, point_mm: Point, box_mm: Box | None, *, keep_fitted: bool) -> None:
        """Centre a point, with room for a box; with `keep_fitted` also after the canvas grows."""
        viewer = self._viewer
        dims, camera = viewer.dims, viewer.scene.camera
        axes = patient_axes(dims)
        camera.center = tuple(float(point_mm[axis]) for axis in axes)
        if box_mm is not None and dims.ndisplay == 2:
            size_mm = np.abs(np.subtract(box_mm[1], box_mm[0]))[axes[-2:]]
            fitting_zoom = np.asarray(viewer.canvas.size) / (ROOM * np.maximum(size_mm, 1.0))
            camera.zoom = min(camera.zoom, float(fitting_zoom.min()))
        if keep_fitted:
            self._centred, self._fitted_pose = (point_mm, box_mm), self._camera_pose()

    def fit(self) -> None:
        """Fit the study into the view, at its centre."""
        viewer = self._viewer
        self.fit_slices()
        if viewer.dims.ndim >= SPACE:
            axes = range(viewer.dims.ndim - SPACE, viewer.dims.ndim)
            centre = self.bounds_mm().mean(0)
            viewer.dims.set_point(axes, centre.tolist())  # at once: each call slices every layer
            self._fitted_pose = self._camera_pose()

    def fit_slices(self) -> None:
        """Fit the slices shown into the view; they fit a canvas that changes its size, too."""
        self._viewer.reset_view()
        self._fit_to_study()
        self._centred, self._fitted_pose = None, self._camera_pose()

    def bounds_mm(self) -> NDArray[np.float64]:
        """Return the corners of the study's images, (2, 3) RAS+ mm; without any, of all layers."""
        layers = self._viewer.layers
        images = [layer for layer in layers if "sequence" in layer.metadata.get(KEY, {})]
        return np.asarray(layers.get_extent(images or layers).world[:, -SPACE:], np.float64)

    def shown_size_mm(self) -> NDArray[np.float64]:
        """Return the height and width of the study on the slice, (2,), at least 1 mm each."""
        low, high = self.bounds_mm()
        axes = patient_axes(self._viewer.dims)[-2:]
        return np.asarray(np.maximum(high - low, 1.0)[axes], np.float64)

    def _fit_to_study(self) -> None:
        """Fit the camera to the study alone if napari fitted it to other layers too."""
        viewer, dims, camera = self._viewer, self._viewer.dims, self._viewer.scene.camera
        is_alone = all(KEY in layer.metadata for layer in viewer.layers)
        if is_alone or dims.ndim < SPACE or dims.ndisplay != 2:
            return
        axes = patient_axes(dims)[-2:]
        camera.center = tuple(self.bounds_mm().mean(0)[axes])
        size_px = np.asarray(viewer.canvas.viewbox_size(viewer.layers))
        camera.zoom = float(_FITTED * (size_px / self.shown_size_mm()).min())

    def _camera_pose(self) -> tuple[float, ...]:
        """Return zoom and position of the camera on the slice."""
        camera = self._viewer.scene.camera
        return (float(camera.zoom), *(float(v) for v in camera.center[-2:]))

    def _is_fitted(self) -> bool:
        """Whether the reader neither moved nor zoomed the view since it was fitted."""
        if self._viewer.dims.ndisplay == SPACE or not self._fitted_pose:
            return False
        return np.allclose(self._camera_pose(), self._fitted_pose, rtol=1e-4, atol=1e-3)

    def _on_size(self) -> None:
        """Fit the study into the new size unless the reader moved or zoomed the view.

        A candidate that was centred, perhaps before the window had its size, stays centred. It is
        only enlarged: the controls that appear during an edit must not reduce the zoom.
        """
        viewer, camera = self._viewer, self._viewer.scene.camera
        self.caption(self._caption_text)
        self.identify(self._identity.lines)
        if not self._is_fitted():
            return
        centre, zoom = camera.center, camera.zoom
        with viewer.events.reset_view.blocker():
            viewer.fit_to_view()
        self._fit_to_study()
        if self._centred is not None:
            if camera.zoom <= zoom:
                camera.center, camera.zoom = centre, zoom
            else:
                self._centre(*self._centred, keep_fitted=True)
        self._fitted_pose = self._camera_pose()

    def show_3d_overview(self) -> None:
        """Fit the study in three dimensions, viewed from the front, left and slightly above."""
        self._viewer.reset_view()
        self._viewer.scene.camera.set_view_direction((-0.35, -1.0, 0.55), (1.0, 0.0, 0.0))

    def _relabel(self) -> None:
        edges = self.edges()
        for letter, text in zip(self._letters, edges, strict=True):
            if letter.text != text:
                letter.text = text
        self.caption(self._caption_text)

    def edges(self) -> Edges:
        """Return the patient's side at each edge of the canvas; empty letters in 3-D."""
        dims = self._viewer.dims
        axes = patient_axes(dims)[-2:]
        if dims.ndim < SPACE or dims.ndisplay != 2 or min(axes) < 0:
            return Edges()
        _, vertical, horizontal = (str(axis) for axis in self._viewer.scene.camera.orientation)
        down, right = np.eye(SPACE)[axes]
        return edges_of(
            self._in_patient(right if horizontal == "right" else -right),
            self._in_patient(down if vertical == "down" else -down),
        )

    def _in_patient(self, step: Any) -> Any:
        """Return the patient direction of a step on the canvas, with the image's transform.

        Arrays grow to the patient's right, front and top; napari's world does so unless the layer's
        transform was changed.
        """
        if self._picture is None:
            return step
        origin = np.asarray(self._picture.data_to_world((0.0,) * SPACE))
        basis = np.column_stack([self._picture.data_to_world(e) - origin for e in np.eye(SPACE)])
        return np.linalg.solve(basis, step) * np.linalg.norm(basis, axis=0)
