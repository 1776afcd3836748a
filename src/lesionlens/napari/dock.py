"""The dock widget: the panel joined to its viewer; and `show(result)`, napari as a viewer.

napari imports this module when the panel is first opened, never to list plugins.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import napari
from napari.settings import get_settings
from qtpy.QtCore import QEvent

from lesionlens.base import host_process
from lesionlens.base.errors import ResourceError
from lesionlens.napari.commands.command import Command
from lesionlens.napari.commands.editing import FINISH
from lesionlens.napari.commands.table import KEYED
from lesionlens.napari.controllers.canvas_gestures import CanvasGestures
from lesionlens.napari.controllers.linked_brush import LinkedBrush
from lesionlens.napari.loading import KEY
from lesionlens.napari.model.acts.session import ReviewSession
from lesionlens.napari.model.geometry.head import HeadOfStudy
from lesionlens.napari.model.overlays.maps import overlays_of
from lesionlens.napari.model.screen.view_model import view_model_of
from lesionlens.napari.model.state.events import Event
from lesionlens.napari.model.state.state import State, only_progress_differs
from lesionlens.napari.model.studies import recent
from lesionlens.napari.painter import CandidateRenderer, Painted
from lesionlens.napari.preferences import read_preferences
from lesionlens.napari.qt.clashes import clashes, keymap_of, napari_key
from lesionlens.napari.qt.dock_layout import DockLayout
from lesionlens.napari.qt.drops import Drops, canvas_of
from lesionlens.napari.qt.keyboard import Keyboard, main_window
from lesionlens.napari.qt.waiting import when_idle
from lesionlens.napari.viewer.board_view import BoardView
from lesionlens.napari.viewer.layers import Layers
from lesionlens.napari.viewer.single import plane_of
from lesionlens.napari.viewer.views import Views
from lesionlens.napari.widgets.panel import Panel
from lesionlens.napari.widgets.worklist_dock import WorklistDock

_SOON_MS = 500
_TURNED = "Napari's axes had been flipped: the patient's right is on the left again."
WORKLIST = "LesionLens worklist"
DOCK = "LesionLens (LesionLens)"
"""What napari's own menu calls the dock, so that the menu shows and hides this very one."""


class LesionLens(Panel):
    """What the Plugins menu docks: a Panel that drives its viewer.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        Its LesionLens layers, if any, become the session's study.
    """

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        # napari hands plugins a proxy, which is not the same object as its own viewer
        viewer = getattr(napari_viewer, "__wrapped__", napari_viewer)
        preferences = read_preferences()
        host_process.set_tunable(preferences.tune_process)
        session = ReviewSession(reader=preferences.reader_name, defaults=preferences.choices())
        super().__init__(viewer, session)
        self.viewer = viewer
        self._state = session.state
        self._drawing = self._moving = False
        self._waiting: list[Event] = []
        self.layers = Layers(viewer)
        self.views = Views(viewer, self.layers, self.actions_, self)
        editor, adder = self.actions_.editor, self.actions_.adder
        self.views.brush = LinkedBrush(editor, adder.point, session.notify)
        editor.repaint = self.views.repaint
        self.layers.turned = self.views.single.turned = self._on_turned
        self.actions_.renew_pointer = self.views.renew_pointer
        self.actions_.read_controller.in_head = HeadOfStudy(self.layers.pictures).contains
        on = Painted(viewer, self.layers, self.views, self)
        self.painter = CandidateRenderer(on, lambda: when_idle(self._lay_out_docks))
        self.gestures = CanvasGestures(viewer, self.actions_)
        acts: dict[Command, Callable[..., Any]] = {
            command: partial(self.commands.run, command.name) for command in KEYED
        }
        self.keyboard = Keyboard(self, acts, self._is_left)
        self.here = True
        self.drops: Drops | None = None
        self.dock_layout: DockLayout | None = None
        self._listen()
        when_idle(self._connect_to_window)
        self.show_model(self.model)
        for layer in list(viewer.layers):
            self._adopt(layer)

    def _listen(self) -> None:
        """Hear the session, the views and napari."""
        session, viewer = self.session, self.viewer
        self.views.probe_requested.connect(self.actions_.probe)
        self.mark_location_requested.connect(self.views.go_to)
        self.worklist_requested.connect(open_worklist)
        self.views.growth_requested.connect(self.actions_.adder.grow)
        self.views.layout_changed.connect(self._on_laid)
        self.views.layout_changed.connect(self.lead_tabs)
        self.actions_.opener.images_loaded = self.views.on_images_loaded
        session.changed.connect(self._on_changed)
        session.happened.connect(self._on_happened)
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.events.theme.connect(self._on_theme)
        get_settings().appearance.events.font_size.connect(self._on_theme)
        viewer.dims.events.order.connect(self._on_order)
        viewer.dims.events.ndisplay.connect(self._on_ndisplay)

    # --- session → screen -----------------------------------------------------------------

    def _on_changed(self, _: State, __: State) -> None:
        """Draw the state of now; a change made while drawing is drawn after it."""
        if self._drawing:
            return
        self._drawing = True
        try:
            while self._state is not self.session.state:
                self.actions_.hang(self._state.study)
                old, self._state = self._state, self.session.state
                self._draw(old, self._state)
                self._follow(old, self._state)
        finally:
            self._drawing = False
        while self._waiting:
            self.views.take(self._waiting.pop(0))

    def _on_happened(self, event: Event) -> None:
        """Let the views do it, once what it belongs to is drawn."""
        if self._drawing:
            self._waiting.append(event)
        else:
            self.views.take(event)

    def _draw(self, old: State, new: State) -> None:
        if only_progress_differs(old, new):
            self.model = self.model.at(new.activity)
            self.run.show_screen(self.model.screen)
            return
        if self.dock_layout is not None:
            self.dock_layout.draw(new.editing is not None)
        before, self.model = self.model, view_model_of(new, self.session.aside)
        self.painter.paint(before, self.model)
        self.actions_.editor.apply(old, new)
        self.show_model(self.model)

    def _follow(self, old: State, new: State) -> None:
        """Begin what a change sets off, once it is drawn: jobs, files, the network."""
        missing = self.model.missing_map
        if missing is not None:
            self.actions_.layer_choice(missing)
        if new.analysis is not old.analysis:
            self.actions_.second.follow()
        if new.study is not old.study:
            self._make_ready()

    def _make_ready(self) -> None:
        """Remember the study; load the network soon, where a reader may ask for it."""
        if self.session.state.study is not None:
            recent.remember(recent.STUDIES, self.session.state.study.root)
        if self.window().isVisible():
            when_idle(self.actions_.make_ready, _SOON_MS)

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
            self.viewer.layers.selection.active = layer
            self.views.single.watch(layer)
            self.views.single.show_plane(self.session.state.choices.plane)
            self.views.fit()

    def _connect_to_window(self) -> None:
        """Hear keys and take drops on the canvas, once the panel is docked beside it."""
        window = main_window(self) if self.here and self.drops is None else None
        if window is None:
            return
        canvas = canvas_of(window)
        self.drops = Drops(canvas, self.take_dropped, self)
        self.keyboard.listen(window, *canvas)
        self.show_clashes(clashes(self.viewer))
        self.dock_layout = DockLayout(window, self)
        self.views.show(self.model)  # opened before the dock
        self._lay_out_docks()
        self._make_ready()

    def _lay_out_docks(self) -> None:
        """Leave the picture its share of the window."""
        if self.dock_layout is not None:
            self.dock_layout.make()

    def _on_theme(self) -> None:
        if self.dock_layout is not None:
            self.dock_layout.keep()
        self.show_theme(self.viewer.theme)
        self._lay_out_docks()

    def _on_order(self) -> None:
        plane = plane_of(self.viewer.dims.order)
        if plane is not None and self.session.state.study is not None:
            self.session.choose_plane(plane)

    def _on_laid(self, linked: BoardView, _: object) -> None:
        linked.prompting = lambda: self.actions_.prompting.held
        linked.prompted.connect(self.actions_.prompting.take)

    def _on_turned(self) -> None:
        self._on_order()  # first, or the message would paint the plane chosen before
        self.session.notify(_TURNED)

    def _on_ndisplay(self) -> None:
        if self._state.study is None:
            return
        self.views.show_dimensions()
        focus = self.model.board.scene.focus
        if self.viewer.dims.ndisplay == 2 and focus is not None:
            self.viewer.reset_view()
            self.views.go_to(focus.point_mm, focus.box_mm)

    # --- keys -----------------------------------------------------------------------------

    def _is_left(self, command: Command) -> bool:
        """Whether napari has a use for a key on the active layer, which is none of ours."""
        if command.name == FINISH and self.session.state.editing is None:
            return True
        active = self.viewer.layers.selection.active
        if active is None or KEY in active.metadata:
            return False
        return napari_key(command) in {str(used) for used in keymap_of(type(active))}

    def release(self) -> None:
        """Let go of the viewer: nothing of it is heard or bound any more; once is enough."""
        if not self.here:
            return
        self.here, viewer = False, self.viewer
        self.jobs.abandon()
        self.questions.abandon()
        if self.archive is not None:
            self.archive.release()
        self.session.changed.disconnect(self._on_changed)
        self.session.happened.disconnect(self._on_happened)
        self.actions_.read_controller.release()
        viewer.layers.events.inserted.disconnect(self._on_inserted)
        viewer.events.theme.disconnect(self._on_theme)
        get_settings().appearance.events.font_size.disconnect(self._on_theme)
        viewer.dims.events.order.disconnect(self._on_order)
        viewer.dims.events.ndisplay.disconnect(self._on_ndisplay)
        self.gestures.release()
        self.views.release()
        self.layers.release()
        if self.drops is not None:
            self.drops.release()
        if self.dock_layout is not None:
            self.dock_layout.release()
            self.dock_layout = None
        self.keyboard.release()

    def changeEvent(self, event: QEvent) -> None:
        """Let go of the viewer when the dock is closed: napari then takes the widget out of it."""
        super().changeEvent(event)
        gone = event.type() == QEvent.Type.ParentChange and self.parent() is None
        if gone and getattr(self, "here", False) and not self._moving:
            self.release()
            self.deleteLater()

    def undock(self) -> None:
        """Leave the dock, which goes, and stay what it is."""
        self._moving = True
        self.viewer.window.remove_dock_widget(self)
        self._moving = False


def panel_of(viewer: napari.Viewer) -> LesionLens | None:
    """Return the panel that is docked in a viewer's window, however it was opened."""
    docked = viewer.window.dock_widgets.values()
    return next((widget for widget in docked if isinstance(widget, LesionLens)), None)


def panel() -> LesionLens:
    """Return the panel for napari to dock: a new one, or that of this window, taken from its dock.

    Raises
    ------
    ResourceError
        There is no window to dock it in.
    """
    viewer = napari.current_viewer()
    if viewer is None:
        raise ResourceError(
            found="no window of napari",
            expected="one, to dock the panel in",
            next_step="Open napari first",
        )
    there = panel_of(viewer)
    if there is None:
        return LesionLens(viewer)
    there.undock()
    return there


def open_panel(viewer: napari.Viewer) -> LesionLens:
    """Return the viewer's panel, shown, and docked now if it was not."""
    there = panel_of(viewer)
    if there is None:
        there = LesionLens(viewer)
        viewer.window.add_dock_widget(there, name=DOCK)
    dock = there.parentWidget()
    if dock is not None:
        dock.show()
        dock.raise_()
    return there


def open_worklist() -> None:
    """Show the worklist below the picture in the window of now (File → IO Utilities)."""
    viewer = napari.current_viewer()
    if viewer is None:
        return
    there = viewer.window.dock_widgets.get(WORKLIST)
    if there is None:
        own = getattr(viewer, "__wrapped__", viewer)
        there = WorklistDock(own, open_panel(viewer).actions_)
        viewer.window.add_dock_widget(there, name=WORKLIST, area="bottom")
    dock = there.parentWidget()
    if dock is not None:
        dock.show()
        dock.raise_()


def open_archive() -> None:
    """Show the archive's dialog in the window of now (File → IO Utilities)."""
    viewer = napari.current_viewer()
    if viewer is not None:
        open_panel(viewer).ask_archive()


def show(result: Any, *, block: bool | None = None) -> napari.Viewer:
    """Open a result in napari with its contours on.

    Parameters
    ----------
    result : lesionlens.Result
        Anything with `.analysis`, an Analysis.
    block : bool or None
        Whether to wait until the window closes; None waits unless an event loop runs already.

    Returns
    -------
    napari.Viewer
    """
    viewer = napari.Viewer(title="LesionLens")
    panel = open_panel(viewer)
    panel.actions_.show_result(result, overlays_of(result.analysis))
    panel.session.step(1)
    if block is not False:
        napari.run()
    return viewer
