"""The dock widget: the panel connected to its viewer; and `show(result)`.

napari imports this module when the panel is first opened, not to list plugins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import napari
from napari.layers import Layer
from napari.settings import get_settings
from qtpy.compat import isalive
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QWidget

from lesionlens.base.errors import ResourceError
from lesionlens.base.run_context import SILENT
from lesionlens.napari.commands.command import Command
from lesionlens.napari.commands.editing import CANCEL, FINISH
from lesionlens.napari.controllers.copies import release_copy
from lesionlens.napari.controllers.update_loop import UpdateLoop
from lesionlens.napari.loading import KEY, layers_of
from lesionlens.napari.model.acts.session import ReviewSession
from lesionlens.napari.model.choices.choices import Choices
from lesionlens.napari.model.geometry.head import HeadOfStudy
from lesionlens.napari.model.overlays.maps import overlays_of
from lesionlens.napari.model.screen.view_model import ViewModel
from lesionlens.napari.model.studies import recent_paths
from lesionlens.napari.preferences import check_enabled, preference_events, read_preferences
from lesionlens.napari.qt.dock_layout import hide_docks, show_controls, show_docks
from lesionlens.napari.qt.drops import Drops, drop_targets
from lesionlens.napari.qt.keyboard import Keyboard, keymap_of, main_window, napari_key
from lesionlens.napari.qt.waiting import when_idle
from lesionlens.napari.qt.window_closing import WindowClosing
from lesionlens.napari.viewer.layers import Layers
from lesionlens.napari.viewer.single import plane_of
from lesionlens.napari.viewer.views import Views
from lesionlens.napari.widgets.pacs_dialog import PacsDialog
from lesionlens.napari.widgets.panel import Panel
from lesionlens.napari.widgets.worklist_dock import WorklistDock

_DELAY_MS = 500
_STILL_SENDING = (
    "A result is being sent to the archive: wait until it finishes, or close again to stop it."
)
WORKLIST = "LesionLens worklist"
DOCK = "LesionLens (LesionLens)"
"""The dock's name in napari's menu, so that the menu shows and hides this dock."""


class LesionLens(Panel):
    """The dock widget of the Plugins menu: a Panel that drives its viewer.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        The study of its LesionLens layers, if any, is opened.
    """

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        # napari passes plugins a proxy, which is not the viewer itself
        viewer = getattr(napari_viewer, "__wrapped__", napari_viewer)
        preferences = read_preferences()
        session = ReviewSession(
            reader=preferences.reader_name, defaults=Choices(opacity=preferences.opacity)
        )
        super().__init__(viewer, session)
        self.viewer = viewer
        self._moving, self._preferences = False, preference_events()
        self.layers = Layers(viewer, session)
        self.views = Views(viewer, self.layers, self.actions_, self.commands.run, self)
        editor = self.actions_.editor
        editor.on_labels_changed = self.views.repaint
        editor.on_layer_added = self.layers.tag
        self.actions_.renew_pointer = self.views.update_pointer
        marking = self.actions_.read_controller.marking
        marking.in_head = HeadOfStudy(self.layers.voxels_by_sequence).contains_point
        self.keyboard = Keyboard(self, self.commands.run, self._is_left_to_napari)
        self.loop = UpdateLoop(self.actions_, self._paint, self._finish, self.views.handle)
        self.is_open, self._docks_hidden = True, False
        self.drops: Drops | None = None
        self._listen()
        self._on_preferences()
        when_idle(self._connect_to_window)
        self.show_model(self.loop.current_model())
        for layer in list(viewer.layers):
            self._adopt(layer)

    def _listen(self) -> None:
        """Connect to the session, the views and napari."""
        self.read_block.go_to_requested.connect(self.views.go_to)
        self.worklist_requested.connect(open_worklist)
        self.views.layout_changed.connect(self.set_tab_order)
        self.actions_.opener.images_loaded = self.views.on_images_loaded
        for event, act in self._events():
            event.connect(act)

    def _events(self) -> tuple[tuple[Any, Callable[..., None]], ...]:
        """Return the events of napari that the panel follows, each with its handler."""
        layers, dims = self.viewer.layers.events, self.viewer.dims.events
        return (
            (layers.inserted, self._on_inserted),
            (self.viewer.events.theme, self._on_theme),
            (get_settings().appearance.events.font_size, self._on_theme),
            (dims.order, self._on_order),
            (dims.ndisplay, self._on_ndisplay),
            *((event, self._on_preferences) for event in self._preferences),
        )

    # --- session → screen -----------------------------------------------------------------

    def _paint(self, before: ViewModel, model: ViewModel) -> None:
        self.model = model
        window = main_window(self) if self._docks_hidden else None
        if window is not None and model.board.editing is not before.board.editing:
            show_controls(window, visible=model.board.editing)
        if model.board is before.board:  # only the progress of a job changed
            return
        self.views.paint(before, model)

    def _finish(self, before: ViewModel, model: ViewModel) -> None:
        """Paint the panel, then start the jobs that the view model requires."""
        if model.board is before.board:
            self.run.show_screen(model.screen)
            return
        self.show_model(model)
        if model.missing_evidence is not None:
            self.actions_.show_evidence(model.missing_evidence)
        if model.study is not before.study:
            self._make_ready()

    def _make_ready(self) -> None:
        """Remember the study, and load the network soon."""
        if self.model.study is not None:
            recent_paths.remember(recent_paths.STUDIES, self.model.study.root)
        if self.window().isVisible():
            when_idle(self.actions_.preload_network, _DELAY_MS)

    # --- viewer → session -----------------------------------------------------------------

    def _on_inserted(self, event: Any) -> None:
        self._adopt(event.value)

    def _adopt(self, layer: Any) -> None:
        metadata = layer.metadata.get(KEY)
        if metadata is None:
            return
        if release_copy(layer):  # after the caption was written
            self.views.single.caption(self.model.screen.study.caption)
            return
        if "sequence" not in metadata or metadata.get("study") is None:
            return
        if metadata["study"] is not self.model.study:
            self.actions_.review_controller.store_reason()
            self.jobs.stop()
            self.session.open(metadata["study"])
        self.layers.adopt(layer)
        self.views.adopt(layer)
        scene = self.model.board.scene
        if scene.sequence is None:
            return
        is_shown = metadata["sequence"] == scene.sequence.value
        if layer.visible != is_shown:  # napari updates all overlays of its canvas at each value set
            layer.visible = is_shown
        if is_shown:
            self.viewer.layers.selection.active = layer
            self.views.single.watch(layer)
            self.views.single.show_plane(scene.choices.plane)
            self.views.fit()
        else:
            when_idle(self._select_shown)  # napari selects every layer that it adds

    def _select_shown(self) -> None:
        """Select the image shown in napari's layer list if a hidden one is selected."""
        if not isalive(self):
            return
        selection = self.viewer.layers.selection
        shown = self.layers.image_layer(self.model.board.scene.sequence)
        active = selection.active
        if shown is not None and shown.visible and self.layers.owns(active) and not active.visible:
            selection.active = shown

    def _connect_to_window(self) -> None:
        """Connect keys and drops on the canvas, once the panel is docked beside it."""
        window = main_window(self) if self.is_open and self.drops is None else None
        if window is None:
            return
        canvas = drop_targets(window)
        self.drops = Drops(canvas, self.actions_.open_dropped, self)
        self.keyboard.listen(window, *canvas)
        WindowClosing(window, self, self._may_close).closing.connect(self._on_closing)
        self.views.show(self.model)  # a study opened before the panel was docked
        self._docks_hidden = hide_docks(window, self)
        self._make_ready()

    def _on_theme(self) -> None:
        self.show_theme(self.viewer.theme)

    def _on_preferences(self) -> None:
        preferences, session = read_preferences(), self.session
        session.defaults = replace(session.defaults, opacity=preferences.opacity)
        self.views.set_wheel(zooms=preferences.wheel_zooms)

    def _on_order(self) -> None:
        self.actions_.prompting.end_stroke()
        plane = plane_of(self.viewer.dims.order)
        if plane is not None and self.model.study is not None:
            self.session.choose_plane(plane)

    def _on_ndisplay(self) -> None:
        self.actions_.prompting.end_stroke()
        if self.model.study is None:
            return
        self.views.show_dimensions()
        focus = self.model.board.scene.focus
        if self.viewer.dims.ndisplay == 2 and focus is not None:
            self.views.single.fit_slices()
            self.views.go_to(focus.centroid_mm, focus.bounding_box_mm)

    # --- keys -----------------------------------------------------------------------------

    def _is_left_to_napari(self, command: Command) -> bool:
        """Whether napari uses the key on the active layer, which is not one of LesionLens."""
        if command.name == FINISH and not self.model.board.editing:
            return True
        if command.name == CANCEL:
            return not self.actions_.is_pointing
        active = self.viewer.layers.selection.active
        if active is None or KEY in active.metadata:
            return False
        return napari_key(command) in {str(used) for used in keymap_of(type(active))}

    def _may_close(self) -> bool:
        """Whether nothing unsaved or unsent would be lost; else refuse once, with a message."""
        window = main_window(self)
        if window is None or not self.is_open:
            return True
        archives = window.findChildren(PacsDialog)  # the worklist has its own
        if not all(archive.controller.may_close() for archive in archives):
            return self.session.decline(_STILL_SENDING)
        return self.actions_.may_close()

    def _on_closing(self) -> None:
        """Store a typed reason and the time of leaving the study, and cancel the running job."""
        if self.is_open:
            self.actions_.review_controller.store_reason()
            self.actions_.read_controller.leave()
            self.jobs.stop()

    def release(self) -> None:
        """Disconnect from the viewer and unbind all keys; further calls do nothing."""
        if not self.is_open:
            return
        self.actions_.review_controller.store_reason()
        self.is_open = False
        self.jobs.abandon()
        self.latest_request.abandon()
        self.actions_.prompting.latest_request.abandon()
        self.actions_.editor.release()
        if self.archive is not None:
            self.archive.release()
        self.loop.release()
        self.actions_.read_controller.release()
        for event, act in self._events():
            event.disconnect(act)
        self.views.release()
        self.layers.release()
        if self.drops is not None:
            self.drops.release()
        window = main_window(self)
        if window is not None and self._docks_hidden:
            show_docks(window)
        self.keyboard.release()

    def changeEvent(self, event: QEvent) -> None:
        """Release the viewer when the dock is closed: napari then removes the widget from it."""
        super().changeEvent(event)
        undocked = event.type() == QEvent.Type.ParentChange and self.parent() is None
        if undocked and getattr(self, "is_open", False) and not self._moving:
            self._close_worklist()
            self.release()
            self.deleteLater()

    def _close_worklist(self) -> None:
        """Close the worklist, whose studies would open for this panel and not for the next one."""
        window = self.viewer.window
        worklist = window.dock_widgets.get(WORKLIST)
        if not isinstance(worklist, WorklistDock):
            return
        worklist.release()

        def remove() -> None:  # later, as napari is removing the panel
            if isalive(worklist):
                window.remove_dock_widget(worklist)
                worklist.deleteLater()

        when_idle(remove)

    def undock(self) -> None:
        """Leave the dock, which is removed, without being released."""
        self._moving = True
        self.viewer.window.remove_dock_widget(self)
        self._moving = False


def panel_of(viewer: napari.Viewer) -> LesionLens | None:
    """Return the panel docked in a viewer's window, or None."""
    docked = viewer.window.dock_widgets.values()
    return next((widget for widget in docked if isinstance(widget, LesionLens)), None)


def panel() -> LesionLens:
    """Return the panel for napari to dock: a new one, or this window's, taken from its dock.

    Raises
    ------
    ResourceError
        There is no napari window.
    """
    viewer = napari.current_viewer()
    if viewer is None:
        raise ResourceError(
            "There is no napari window.",
            hint="Open napari first.",
        )
    docked = panel_of(viewer)
    if docked is None:
        return LesionLens(viewer)
    docked.undock()
    return docked


def open_panel(viewer: napari.Viewer) -> LesionLens:
    """Return the viewer's panel, docked if necessary and shown."""
    docked = panel_of(viewer)
    if docked is None:
        docked = LesionLens(viewer)
        viewer.window.add_dock_widget(docked, name=DOCK)
    _raise_dock(docked)
    return docked


def open_worklist() -> None:
    """Show the worklist below the image in the current window (File → IO Utilities)."""
    viewer = napari.current_viewer()
    if viewer is None:
        return
    worklist = viewer.window.dock_widgets.get(WORKLIST)
    if worklist is None:
        wrapped, panel = getattr(viewer, "__wrapped__", viewer), open_panel(viewer)
        worklist = WorklistDock(wrapped, panel.actions_, panel.commands)
        viewer.window.add_dock_widget(worklist, name=WORKLIST, area="bottom")
    _raise_dock(worklist)


def _raise_dock(widget: QWidget) -> None:
    dock = widget.parentWidget()
    if dock is not None:
        dock.show()
        dock.raise_()


def open_archive() -> None:
    """Show the archive's dialog in the current window (File → IO Utilities)."""
    viewer = napari.current_viewer()
    if viewer is not None:
        open_panel(viewer).show_archive()


def show(result: Any, *, block: bool | None = None) -> napari.Viewer:
    """Open a result in napari with its contours shown.

    As for every study that is opened, its images are shown alone until an unaided read that the
    preferences require is signed.

    Parameters
    ----------
    result : lesionlens.Result
        Anything with `.analysis`, an Analysis.
    block : bool or None
        Whether to wait until the window is closed; None waits unless an event loop is running.
    """
    check_enabled()
    viewer, study = napari.Viewer(title="LesionLens"), result.analysis.study
    panel = open_panel(viewer)
    panel.session.open(study)
    panel.actions_.show_result(result, overlays_of(result.analysis))
    if not panel.model.screen.analysed:
        for layer in layers_of(study, SILENT):
            viewer.add_layer(Layer.create(*layer))
    panel.session.step(1)
    if block is not False:
        napari.run()
    return viewer
