"""Paints the view model onto napari's layers and the views."""

from __future__ import annotations

from collections.abc import Callable

from napari.components import ViewerModel

from lesionlens.base.process.memory import collect_and_freeze
from lesionlens.napari.loading import KEY
from lesionlens.napari.model.screen.view_model import ViewModel
from lesionlens.napari.qt.waiting import once_idle
from lesionlens.napari.viewer.layers import Layers
from lesionlens.napari.viewer.views import Views
from lesionlens.napari.widgets.panel import Panel

_DELAY_MS = 500


class WindowPainter:
    """Paints one window; changes no state and starts no job.

    `laid_out` is called when the image may need a different fraction of the window.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        layers: Layers,
        views: Views,
        panel: Panel,
        laid_out: Callable[[], object],
    ) -> None:
        self._viewer, self._layers, self._views = viewer, layers, views
        self._laid_out = laid_out
        self._collection = once_idle(collect_and_freeze, panel)

    def paint(self, before: ViewModel, model: ViewModel) -> None:
        """Paint the differences between two models."""
        views, layers = self._views, self._layers
        if model.study is not before.study:
            views.keep_position(
                lambda: layers.remove_other_studies(model.study, model.suspended_study)
            )
            if model.study is not None:
                views.set_up()
        if model.overlays is not before.overlays:
            self._apply_overlays(before, model)
        elif model.study is not before.study is not None:
            self._collection.start(_DELAY_MS)
        views.show(model)

    def _apply_overlays(self, before: ViewModel, model: ViewModel) -> None:
        is_empty = not any(KEY in layer.metadata for layer in self._viewer.layers)
        self._views.keep_position(lambda: self._layers.show_overlays(model.overlays, model.study))
        self._laid_out()
        if before.overlays is None or model.overlays is None:
            self._collection.start(0)
        if is_empty:
            self._views.fit()
