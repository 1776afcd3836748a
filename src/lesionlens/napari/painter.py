"""Paints the view model onto napari's layers and the views."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from napari.components import ViewerModel

from lesionlens.base.memory import collect_and_freeze
from lesionlens.napari.loading import KEY
from lesionlens.napari.model.screen.view_model import ViewModel
from lesionlens.napari.preferences import read_preferences
from lesionlens.napari.qt.waiting import once_idle
from lesionlens.napari.viewer.layers import Layers
from lesionlens.napari.viewer.views import Views
from lesionlens.napari.widgets.panel import Panel

_SOON_MS = 500


@dataclass(frozen=True, slots=True)
class PaintTargets:
    """Targets of the painting."""

    viewer: ViewerModel
    layers: Layers
    views: Views
    panel: Panel


class WindowPainter:
    """Paints one window; changes no state and starts no job.

    Parameters
    ----------
    on : PaintTargets
        Layers, views and panel of the window.
    laid_out : callable
        Called when the image may need a different share of the window.
    """

    def __init__(self, on: PaintTargets, laid_out: Callable[[], object]) -> None:
        self._on, self._laid_out = on, laid_out
        self._resting = once_idle(collect_and_freeze, on.panel)

    def paint(self, before: ViewModel, model: ViewModel) -> None:
        """Paint the differences between two models."""
        on = self._on
        if model.study is not before.study:
            on.views.without_events(lambda: on.layers.forget_others(model.study, model.aside))
            if model.study is not None:
                on.views.set_up()
                on.views.set_wheel(zooms=read_preferences().wheel_zooms)
        if model.overlays is not before.overlays:
            self._take_overlays(before, model)
        elif model.study is not before.study is not None:
            self._resting.start(_SOON_MS)
        on.views.show(model)

    def _take_overlays(self, before: ViewModel, model: ViewModel) -> None:
        on = self._on
        bare = not any(KEY in layer.metadata for layer in on.viewer.layers)
        on.views.without_events(lambda: on.layers.take(model.overlays, model.study))
        self._laid_out()
        if before.overlays is None or model.overlays is None:
            self._resting.start(0)
        if bare:
            on.views.fit()
