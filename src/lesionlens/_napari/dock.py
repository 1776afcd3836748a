"""The dock widget: the panel joined to its viewer; and `show(result)`, napari as a viewer.

napari imports this module when the panel is first opened, never to list plugins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import napari
from npe2 import PluginManager
from qtpy.QtCore import QEvent

from lesionlens._napari.controllers.identity import identity_of
from lesionlens._napari.model.display import overlays_of
from lesionlens._napari.model.keys import KEYS, Key
from lesionlens._napari.model.screen import Screen, ShownScene, resolve
from lesionlens._napari.model.session import ReviewSession
from lesionlens._napari.model.state import Overlay, Request, State
from lesionlens._napari.preferences import read_preferences
from lesionlens._napari.qt.drops import Drops, canvas_of
from lesionlens._napari.qt.waiting import when_idle
from lesionlens._napari.reader import KEY
from lesionlens._napari.viewer.layers import Layers
from lesionlens._napari.viewer.single import plane_of
from lesionlens._napari.viewer.views import Views
from lesionlens._napari.widgets.panel import Panel
from lesionlens.base.errors import UnusableInputError


class LesionLens(Panel):
    """What the Plugins menu docks: a Panel that drives its viewer.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        Its layers of ours, if any, become the session's study.
    """

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        # napari hands plugins a proxy, which is not the same object as its own viewer
        viewer = getattr(napari_viewer, "__wrapped__", napari_viewer)
        preferences = read_preferences()
        session = ReviewSession(reader=preferences.reader_name, defaults=preferences.choices())
        super().__init__(viewer, session)
        self._viewer = viewer
        self._screen = Screen()
        self._state = session.state
        self._drawing = False
        self.layers = Layers(viewer)
        self.views = Views(viewer, self.layers, self.actions_, self)
        self.views.asked.connect(self.actions_.probe)
        session.changed.connect(self._on_changed)
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.events.theme.connect(self._on_theme)
        viewer.dims.events.order.connect(self._on_order)
        viewer.dims.events.ndisplay.connect(self._on_ndisplay)
        viewer.mouse_drag_callbacks.append(self._on_click)
        viewer.mouse_move_callbacks.append(self._on_move)
        self._bound = [self._bind(key) for key in KEYS]
        self._drops: Drops | None = None
        when_idle(self._take_drops)
        self.show_screen(self._screen, session.state)
        for layer in list(viewer.layers):
            self._adopt(layer)

    # --- session → screen -----------------------------------------------------------------

    def _on_changed(self, _: State, __: State) -> None:
        """Draw the state of now; a change made while drawing is drawn after it."""
        if self._drawing:
            return
        self._drawing = True
        try:
            while self._state is not self.session.state:
                old, self._state = self._state, self.session.state
                self._draw(old, self._state)
        finally:
            self._drawing = False

    def _draw(self, old: State, new: State) -> None:
        before, screen = self._screen.scene, resolve(new)
        self._screen = screen
        if new.study is not old.study:
            self.layers.forget_others(new.study)
            if new.study is not None:
                self.views.set_up()
                self.views.identify(identity_of(new.study))
                self.views.set_wheel(zooms=read_preferences().wheel_zooms)
        if new.overlays is not old.overlays:
            bare = not any(KEY in layer.metadata for layer in self._viewer.layers)
            self.layers.take(new.overlays, new.study)
            if bare:
                self.views.fit()
        self.views.show(before, screen, new)
        self._ask_for(screen.scene, new)
        self.actions_.editor.apply(old, new)
        self.show_screen(screen, new)
        if new.study is not old.study:
            self.actions_.hang()

    def _ask_for(self, scene: ShownScene, state: State) -> None:
        """Ask for the single look that is chosen and not there yet."""
        if scene.attention is None or scene.look is None or state.overlays is None:
            return
        if state.overlays.attended(scene.attention, scene.look) is None:
            self.actions_.look(scene.look)

    # --- viewer → session -----------------------------------------------------------------

    def _on_inserted(self, event: Any) -> None:
        self._adopt(event.value)

    def _adopt(self, layer: Any) -> None:
        ours = layer.metadata.get(KEY)
        if ours is None or "sequence" not in ours or ours.get("study") is None:
            return
        if self.session.state.study is None or ours["study"] is not self.session.state.study:
            self.jobs.stop()
            self.session.open(ours["study"])
        self.layers.adopt(layer)
        self.views.adopt(layer)
        shown = self.session.state.choices.sequence
        if shown is not None and ours["sequence"] == shown.value:
            layer.visible = True
            self._viewer.layers.selection.active = layer
            self.views.single.watch(layer)
            self.views.single.show_plane(self.session.state.choices.plane)
            self.views.fit()

    def _take_drops(self) -> None:
        """Take what is dropped on the canvas, once the panel is docked beside it."""
        if self._bound and self._drops is None:
            self._drops = Drops(canvas_of(self), self.take_dropped, self)

    def _on_theme(self) -> None:
        self.show_theme(self._viewer.theme)

    def _on_order(self) -> None:
        plane = plane_of(self._viewer.dims.order)
        if plane is not None and self.session.state.study is not None:
            self.session.choose_plane(plane)

    def _on_ndisplay(self) -> None:
        if self._state.study is None:
            return
        self.views.show_dimensions()
        visit = self._screen.scene.visit
        if self._viewer.dims.ndisplay == 2 and visit is not None:
            self._viewer.reset_view()
            self.views.go_to(visit.point_mm, visit.box_mm)

    def _on_click(self, _: Any, event: Any) -> None:
        """Shift and a click ask the voxel what it attended to."""
        if event.button == 1 and "Shift" in event.modifiers and len(event.position) == 3:
            i, j, k = (float(v) for v in event.position)
            self.actions_.probe((i, j, k))

    def _on_move(self, _: Any, __: Any) -> None:
        """While the probe's key is held, every voxel that the pointer comes to is asked."""
        if self.actions_.probing:
            self.actions_.probe_pointer(moving=True)

    # --- keys -----------------------------------------------------------------------------

    def _bind(self, key: Key) -> str:
        target = self if key.act == "show_keys" else self.actions_
        act: Callable[..., Any] = getattr(target, key.act)

        def press(_: Any) -> None:
            act()
            if key.act in ("accept", "reject", "defer"):
                self.candidates.clear_reason()

        def hold(_: Any) -> Iterator[None]:
            act(True)
            yield
            act(False)

        self._viewer.bind_key(key.key, hold if key.hold else press, overwrite=True)
        return key.key

    def release(self) -> None:
        """Let go of the viewer: nothing of it is heard or bound any more; once is enough."""
        if not self._bound:
            return
        viewer = self._viewer
        self.jobs.abandon()
        self.questions.abandon()
        if self.archive is not None:
            self.archive.release()
        self.session.changed.disconnect(self._on_changed)
        viewer.layers.events.inserted.disconnect(self._on_inserted)
        viewer.events.theme.disconnect(self._on_theme)
        viewer.dims.events.order.disconnect(self._on_order)
        viewer.dims.events.ndisplay.disconnect(self._on_ndisplay)
        if self._on_click in viewer.mouse_drag_callbacks:
            viewer.mouse_drag_callbacks.remove(self._on_click)
        if self._on_move in viewer.mouse_move_callbacks:
            viewer.mouse_move_callbacks.remove(self._on_move)
        self.views.release()
        if self._drops is not None:
            self._drops.release()
        for key in self._bound:
            viewer.bind_key(key, None)
        self._bound = []

    def changeEvent(self, event: QEvent) -> None:
        """Let go of the viewer when the dock is closed: napari then takes the widget out of it."""
        super().changeEvent(event)
        gone = event.type() == QEvent.Type.ParentChange and self.parent() is None
        if gone and getattr(self, "_bound", None):
            self.release()
            self.deleteLater()


def open_panel(viewer: napari.Viewer) -> LesionLens:
    """Return the viewer's panel, docked now if it was not."""
    _, widget = viewer.window.add_plugin_dock_widget("lesionlens", "LesionLens")
    return cast("LesionLens", widget)


def open_archive() -> None:
    """Show the archive's dialog in the window of now (File → IO Utilities)."""
    viewer = napari.current_viewer()
    if viewer is not None:
        open_panel(viewer).ask_archive()


def ask_in_panel(places: tuple[Path, ...], error: UnusableInputError) -> bool:
    """Ask in the window of now what must be decided before a study can be opened.

    Returns
    -------
    bool
        False where there is no window to ask in.
    """
    viewer = napari.current_viewer()
    if viewer is None or "lesionlens" not in PluginManager.instance():
        return False
    when_idle(lambda: open_panel(viewer).actions_.opener.refused(Request.of(places), error))
    return True


def offer_panel() -> None:
    """Open the panel in the window of now, where there is one and the preferences say so."""
    viewer = napari.current_viewer()
    if (
        viewer is not None
        and "lesionlens" in PluginManager.instance()
        and read_preferences().open_panel
    ):
        open_panel(viewer)


def show(result: Any, *, block: bool | None = None) -> napari.Viewer:
    """Open a result in napari with its contours on.

    Parameters
    ----------
    result : lesionlens.lens.Result
        Anything with `.analysis`, an Analysis.
    block : bool or None
        Whether to wait until the window closes; None waits unless an event loop runs already.

    Returns
    -------
    napari.Viewer
    """
    viewer = napari.Viewer(title="LesionLens")
    panel = open_panel(viewer)
    panel.actions_.take(result, overlays_of(result.analysis))
    candidates = result.analysis.findings.candidates
    if candidates:
        panel.session.choose_overlay(Overlay.CONTOUR)
        panel.session.go_to(candidates[0].id)
    if block is not False:
        napari.run()
    return viewer
