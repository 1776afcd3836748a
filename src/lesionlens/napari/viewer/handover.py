"""Transfer of viewpoint and zoom between napari's canvas and the linked views."""

from __future__ import annotations

import numpy as np
from napari.components import ViewerModel

from lesionlens.napari.model.geometry.viewpoint import SharedViewpoint
from lesionlens.napari.viewer.board_view import BoardView
from lesionlens.napari.viewer.single import SPACE, SingleView, patient_axes


class Handover:
    """Transfers the viewpoint when views are swapped."""

    def __init__(self, viewer: ViewerModel, single: SingleView, viewpoint: SharedViewpoint) -> None:
        self._viewer, self._single, self._viewpoint = viewer, single, viewpoint
        self._transferred_zoom = 0.0  # zoom transferred from the linked views to napari's canvas

    def enter(self, linked: BoardView) -> None:
        """Transfer from napari's canvas to the linked views."""
        camera, dims = self._viewer.scene.camera, self._viewer.dims
        if dims.ndim < SPACE:
            return
        relative_zoom = camera.zoom / max(self._fit_zoom(), 1e-9)
        linked.fit()
        if relative_zoom > 1.1 or camera.zoom == self._transferred_zoom:
            self._viewpoint.move(zoom=camera.zoom)  # both are pixels per millimetre
            centre = list(self._viewpoint.current.point_mm)
            for axis, value in zip(patient_axes(dims)[-2:], camera.center[-2:], strict=True):
                centre[axis] = float(value)
            linked.go_to_point((centre[0], centre[1], centre[2]))

    def leave(self, linked: BoardView) -> None:
        """Transfer from the linked views to napari's canvas."""
        dims, centre = self._viewer.dims, self._viewpoint.current.centre_mm
        if dims.ndim >= SPACE and dims.ndisplay == 2:
            self._viewer.scene.camera.center = tuple(centre[axis] for axis in patient_axes(dims))
            self._transferred_zoom = 0.0
            if not linked.is_fitted:
                self._viewer.scene.camera.zoom = self._transferred_zoom = (
                    self._viewpoint.current.zoom
                )

    def _fit_zoom(self) -> float:
        canvas_px = np.asarray(self._viewer.canvas.size)
        return float((canvas_px / self._single.shown_size_mm()).min())
