"""One window of napari for many tests, as new before each of them.

Making and closing a window takes longer than most of the tests themselves. What a test did to it
is undone by napari's own means, and what a new window would say of itself is compared after that:
a test that leaves something behind fails, not the next one.
"""

from __future__ import annotations

import gc
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
from app_model import Application
from napari import Viewer
from napari._app_model._app import NapariApplication, _napari_names
from napari._qt._qapp_model.qactions import init_qactions
from napari._qt.qt_viewer import QtViewer
from napari.layers import Layer
from napari.plugins import _initialize_plugins
from napari.settings import get_settings
from npe2 import PluginManifest
from npe2._pytest_plugin import TestPluginManager
from qtpy.QtCore import QCoreApplication, QEvent
from qtpy.QtWidgets import QApplication, QWidget

from lesionlens.base.records.study import Study
from lesionlens.base.run_context import SILENT
from lesionlens.napari.loading import KEY, layers_of

APPLICATION = "lesionlens_tests"
NO_COLLECTOR = SimpleNamespace(collect=lambda: None)
"""What napari asks to collect at each removed layer: we do before each test instead."""
MANY = 1000
"""Of so many elements NumPy does not write all."""


class SharedWindow:
    """A viewer, the plugin manager that it asks, and how both were when they were new.

    Parameters
    ----------
    manifest : PluginManifest
        Of the one plugin that is installed.
    """

    def __init__(self, manifest: PluginManifest) -> None:
        self._patches = ExitStack()
        self.plugins = TestPluginManager()
        app = NapariApplication(APPLICATION)
        app.injection_store.namespace = _napari_names
        for target, name, value in (
            ("npe2.PluginManager", "instance", lambda: self.plugins),
            ("napari._app_model._app.NapariApplication", "get_app_model", lambda: app),
            ("napari._qt.threads.status_checker.StatusChecker", "start", lambda *_: None),
            ("napari._qt.qt_viewer.QtViewer", "_get_console", _no_console),
            ("napari._qt.qt_main_window", "SHOW_QT_WARNING", False),
            ("napari._vispy.canvas", "gc", NO_COLLECTOR),
            ("napari.settings._base.EventedConfigFileSettings", "_maybe_save", lambda *_: None),
        ):
            self._patches.enter_context(patch(f"{target}.{name}", value))
        _initialize_plugins.cache_clear()
        init_qactions.cache_clear()
        get_settings().reset()
        self.plugins.register(manifest)
        self.viewer = Viewer(show=False, show_welcome_screen=False)
        self.window = self.viewer.window._qt_window
        QApplication.instance().removeEventFilter(self.window)  # heeds nothing but a hidden menu
        self._geometry = self.window.saveGeometry()
        self._docks = self.window.saveState()
        self.new = self._empty = self.described()
        self._study: Study | None = None
        self._kept: list[tuple[Layer, dict[str, Any], dict[str, Any]]] = []

    def lay(self, study: Study | None) -> None:
        """Show a study's layers, or none; those of the test before are used again.

        What that test left is collected here, on this thread: no other may free a widget. What
        stays, stays long: it is not looked through again.
        """
        gc.collect()
        gc.freeze()
        if study is None or study is not self._study:
            self.viewer.layers.clear()
            self._study, self._kept = study, []
            for data in layers_of(study, SILENT) if study is not None else ():
                layer = Layer.create(*data)
                self.viewer.layers.append(layer)
                self._kept.append((layer, layer._get_state(), dict(data[1]["metadata"][KEY])))
        self.new = self.described()

    def described(self) -> dict[str, Any]:
        """Return what can be seen of the window and what listens to it."""
        viewer = self.viewer
        scene, canvas = viewer.scene, viewer.canvas
        words = (*canvas.overlays.items(), *scene.overlays.items())
        groups = (viewer, viewer.dims, scene.camera, canvas, viewer.layers, *viewer.layers)
        return {
            "title": viewer.title,
            "theme": viewer.theme,
            "dims": viewer.dims.model_dump(),
            "camera": scene.camera.model_dump(),
            "background": canvas.background_color_override,
            "grid": canvas.grid.model_dump(),
            "layers": [_described(layer) for layer in viewer.layers],
            "chosen": [layer.name for layer in viewer.layers.selection],
            "words": {name: getattr(one, "text", "") for name, one in words if one.visible},
            "keys": sorted(str(key) for key in viewer.keymap),
            "pointer": {
                kind: len(getattr(viewer, f"mouse_{kind}_callbacks"))
                for kind in ("drag", "move", "wheel", "double_click")
            },
            "listening": [
                f"{name} → {ours}"
                for group in groups
                for name, emitter in group.events.emitters.items()
                for ours in map(_of_ours, emitter.callbacks)
                if ours
            ],
            "docked": sorted(viewer.window.dock_widgets),
            "canvas": viewer.window._qt_viewer.canvas.native.isVisibleTo(self.window),
            "shown": self.window.isVisible(),
        }

    def ownerless_widgets(self) -> list[QWidget]:
        """Return what stands on its own and is no part of this window."""
        return [one for one in QApplication.topLevelWidgets() if _root(one) is not self.window]

    def reset(self) -> None:
        """Undo by napari's means what a user may have changed, as its menus and buttons do."""
        viewer, window = self.viewer, self.window
        window.hide()
        for dock in [*viewer.window._wrapped_dock_widgets.values()]:
            _delete(dock.widget())
            viewer.window.remove_dock_widget(dock)
        get_settings().reset()
        self._reset_layers()
        for model, name in ((viewer.dims, "dims"), (viewer.scene.camera, "camera")):
            if str(model.model_dump()) != str(self.new[name]):
                model.update(self.new[name])
        viewer.canvas.grid.reset()
        viewer.canvas.background_color_override = None
        viewer.canvas.overlays.scale_bar.visible = False
        viewer.theme = get_settings().appearance.theme
        viewer.title = self.new["title"]
        window.restoreGeometry(self._geometry)
        if window.saveState() != self._docks:
            window.restoreState(self._docks)
        QApplication.processEvents()
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)

    def _reset_layers(self) -> None:
        """Give the study's layers back what they were made with; if one is gone, none stays."""
        layers, kept = self.viewer.layers, [layer for layer, _, _ in self._kept]
        if any(layer not in layers for layer in kept):
            kept, self._kept, self._study, self.new = [], [], None, self._empty
        for layer in [one for one in layers if one not in kept]:
            layers.remove(layer)
        if [*layers] != kept:
            layers.move_multiple([layers.index(one) for one in kept])
        for layer, state, ours in self._kept:
            layer.metadata = {KEY: dict(ours)}
            for name, value in layer._get_state().items():
                if name != "metadata" and not _same(value, state[name]):
                    setattr(layer, name, state[name])
        layers.selection = set(kept[-1:])

    def close(self) -> None:
        """Close the window, without keeping its settings; what the tests left goes before it."""
        gc.collect()
        with patch.object(self.window, "_save_current_window_settings"):
            self.viewer.close()
        del self.viewer, self.window
        gc.collect()
        QtViewer._instances.clear()
        Application.destroy(APPLICATION)
        _initialize_plugins.cache_clear()
        init_qactions.cache_clear()
        self._patches.close()


def _delete(docked: QWidget | None) -> None:
    """Delete what is docked while it is: out of the dock, each control would be styled anew."""
    if docked is None:
        return
    if hasattr(docked, "release"):  # else called when it leaves the window
        docked.release()
    docked.deleteLater()
    QCoreApplication.sendPostedEvents(docked, QEvent.Type.DeferredDelete.value)


def _of_ours(callback: Any) -> str:
    """Return which class or function of the product a callback is, or nothing."""
    heard = callback[0]() if isinstance(callback, tuple) else callback
    what = heard if hasattr(heard, "__qualname__") else type(heard)
    return what.__qualname__ if what.__module__.startswith("lesionlens") else ""


def _described(layer: Layer) -> dict[str, str]:
    state = layer._get_state() | {"data": id(layer.data), "metadata": sorted(layer.metadata)}
    return {name: str(value) for name, value in state.items()}


def _same(one: Any, other: Any) -> bool:
    """Whether two values of a layer's state are the same; its voxels only if they are one array."""
    return one is other or (str(one) == str(other) and np.size(one) < MANY)


def _root(widget: QWidget) -> QWidget:
    while widget.parent() is not None:
        widget = widget.parent()
    return widget


def _no_console(*_: Any) -> QWidget:
    widget = QWidget()
    widget._update_theme = lambda *_: None
    return widget
