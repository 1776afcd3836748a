"""The dock widget: the panel joined to its viewer; and `show(result)`, napari as a viewer.

napari imports this module when the panel is first opened, never to list plugins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import napari
from napari.settings import get_settings
from qtpy.QtCore import QEvent

from lesionlens.base import host_process
from lesionlens.base.errors import ResourceError
from lesionlens.base.memory import collect_and_freeze
from lesionlens.napari.commands.command import Command
from lesionlens.napari.commands.editing import FINISH
from lesionlens.napari.commands.table import KEYED
from lesionlens.napari.loading import KEY
from lesionlens.napari.model.acts.session import ReviewSession
from lesionlens.napari.model.geometry.head import HeadOfStudy
from lesionlens.napari.model.overlays.maps import overlays_of
from lesionlens.napari.model.screen.first_look import with_first_look
from lesionlens.napari.model.screen.screen import ShownScene, resolve
from lesionlens.napari.model.state.state import State, only_progress_differs
from lesionlens.napari.model.studies import recent
from lesionlens.napari.preferences import read_preferences
from lesionlens.napari.qt.clashes import clashes, keymap_of
from lesionlens.napari.qt.dock_layout import DockLayout
from lesionlens.napari.qt.drops import Drops, canvas_of
from lesionlens.napari.qt.keyboard import Keyboard, main_window
from lesionlens.napari.qt.waiting import once_idle, when_idle
from lesionlens.napari.viewer.board_view import BoardView
from lesionlens.napari.viewer.layers import Layers
from lesionlens.napari.viewer.marks import Marks
from lesionlens.napari.viewer.prompt_mouse import PromptMouse
from lesionlens.napari.viewer.single import plane_of
from lesionlens.napari.viewer.views import Views
from lesionlens.napari.widgets.panel import Panel
from lesionlens.napari.widgets.worklist_dock import WorklistDock

_SOON_MS = 500
_TURNED = "Napari's axes were turned. The picture is right again: the patient's right on its left."
WORKLIST = "LesionLens worklist"
DOCK = "LesionLens (LesionLens)"
"""What napari's own menu calls the dock, so that the menu shows and hides this very one."""


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
        host_process.set_tunable(preferences.tune_process)
        session = ReviewSession(reader=preferences.reader_name, defaults=preferences.choices())
        super().__init__(viewer, session)
        self.viewer = viewer
        self._state = session.state
        self._drawing = self._moving = False
        self._resting = once_idle(collect_and_freeze, self)
        self.layers = Layers(viewer)
        self.views = Views(viewer, self.layers, self.actions_, self)
        self.layers.turned = self.views.single.turned = self._on_turned
        self.actions_.renew_pointer = self.views.renew_pointer
        self.actions_.read_controller.in_head = HeadOfStudy(self.layers.pictures).contains
        self.views.probe_requested.connect(self.actions_.probe)
        self.marks = Marks(viewer)
        self.mark_location_requested.connect(self.views.go_to)
        self.worklist_requested.connect(open_worklist)
        self.views.growth_requested.connect(self.actions_.adder.grow)
        self.views.layout_changed.connect(self._on_laid)
        self.views.layout_changed.connect(self.lead_tabs)
        self.actions_.opener.images_loaded = self.views.on_images_loaded
        session.changed.connect(self._on_changed)
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.events.theme.connect(self._on_theme)
        get_settings().appearance.events.font_size.connect(self._on_theme)
        viewer.dims.events.order.connect(self._on_order)
        viewer.dims.events.ndisplay.connect(self._on_ndisplay)
        viewer.mouse_drag_callbacks.append(self._on_click)
        viewer.mouse_move_callbacks.append(self._on_move)
        acts: dict[Command, Callable[..., Any]] = {
            command: partial(self.commands.run, command.name) for command in KEYED
        }
        self.pointer = PromptMouse(
            viewer, lambda: self.actions_.prompting.held, self.actions_.prompting.take
        )
        self.keyboard = Keyboard(self, acts, self._is_left)
        self.here = True
        self.drops: Drops | None = None
        self.dock_layout: DockLayout | None = None
        when_idle(self._connect_to_window)
        self.show_screen(self.shown, session.state)
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
                self.actions_.hang(self._state.study)
                old, self._state = self._state, self.session.state
                if self.dock_layout is not None:
                    self.dock_layout.draw(self._state.editing is not None)
                self._draw(old, self._state)
        finally:
            self._drawing = False

    def _draw(self, old: State, new: State) -> None:
        if only_progress_differs(old, new):
            self.shown = replace(self.shown, activity=new.activity)
            self.run.show_screen(self.shown)
            return
        before, screen = self.shown.scene, with_first_look(resolve(new), new)
        self.shown = screen
        if new.study is not old.study:
            self.views.without_events(
                lambda: self.layers.forget_others(new.study, self.session.aside)
            )
            if new.study is not None:
                self.views.set_up()
                self.views.set_wheel(zooms=read_preferences().wheel_zooms)
        if new.overlays is not old.overlays:
            bare = not any(KEY in layer.metadata for layer in self.viewer.layers)
            self.views.without_events(lambda: self.layers.take(new.overlays, new.study))
            when_idle(self._lay_out_docks)
            if old.overlays is None or new.overlays is None:
                self._resting.start(0)
            if bare:
                self.views.fit()
        elif new.study is not old.study is not None:
            self._resting.start(_SOON_MS)
        if new.marks != old.marks or new.study is not old.study:
            self.marks.show(new.marks, new.study)
        self.views.show(before, screen, new)
        self._ask_for(screen.scene, new)
        self.actions_.editor.apply(old, new)
        self.show_screen(screen, new)
        if new.study is not old.study:
            self._make_ready()

    def _make_ready(self) -> None:
        """Remember the study; load the network soon, where a reader may ask for it."""
        if self.session.state.study is not None:
            recent.remember(recent.STUDIES, self.session.state.study.root)
        if self.window().isVisible():
            when_idle(self.actions_.make_ready, _SOON_MS)

    def _ask_for(self, scene: ShownScene, state: State) -> None:
        """Ask for the single layer that is chosen and not there yet."""
        if scene.attention is None or scene.layer_choice is None or state.overlays is None:
            return
        if state.overlays.attended(scene.attention, scene.layer_choice) is None:
            self.actions_.layer_choice(scene.layer_choice)

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
        self.views.show(self.shown.scene, self.shown, self._state)  # opened before the dock
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
        self.session.notify(_TURNED)

    def _on_ndisplay(self) -> None:
        if self._state.study is None:
            return
        self.views.show_dimensions()
        visit = self.shown.scene.visit
        if self.viewer.dims.ndisplay == 2 and visit is not None:
            self.viewer.reset_view()
            self.views.go_to(visit.point_mm, visit.box_mm)

    def _on_click(self, _: Any, event: Any) -> None:
        """Place a mark that waits, or a point where to split; Shift asks, Ctrl adds a lesion."""
        if event.button != 1 or len(event.position) != 3 or self.actions_.prompting.held:
            return
        i, j, k = (float(v) for v in event.position)
        if self.actions_.place_mark((i, j, k)):
            return
        if "Shift" in event.modifiers:
            self.actions_.probe((i, j, k))
        elif self.session.state.editing is not None:
            self.actions_.adder.point((i, j, k))
        elif "Control" in event.modifiers:
            self.actions_.adder.grow((i, j, k))

    def _on_move(self, _: Any, __: Any) -> None:
        """While the probe's key is held, every voxel that the pointer comes to is asked."""
        if self.actions_.probing:
            self.actions_.probe_pointer(moving=True)

    # --- keys -----------------------------------------------------------------------------

    def _is_left(self, command: Command) -> bool:
        """Whether napari has a use for a key on the active layer, which is none of ours."""
        if command.name == FINISH and self.session.state.editing is None:
            return True
        active = self.viewer.layers.selection.active
        if active is None or KEY in active.metadata:
            return False
        return command.shown_key in {str(used) for used in keymap_of(type(active))}

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
        self.actions_.read_controller.release()
        viewer.layers.events.inserted.disconnect(self._on_inserted)
        viewer.events.theme.disconnect(self._on_theme)
        get_settings().appearance.events.font_size.disconnect(self._on_theme)
        viewer.dims.events.order.disconnect(self._on_order)
        viewer.dims.events.ndisplay.disconnect(self._on_ndisplay)
        if self._on_click in viewer.mouse_drag_callbacks:
            viewer.mouse_drag_callbacks.remove(self._on_click)
        if self._on_move in viewer.mouse_move_callbacks:
            viewer.mouse_move_callbacks.remove(self._on_move)
        self.pointer.release()
        self.views.release()
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
    panel.actions_.show_result(result, overlays_of(result.analysis))
    panel.session.step(1)
    if block is not False:
        napari.run()
    return viewer
