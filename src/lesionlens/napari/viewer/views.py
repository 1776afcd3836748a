"""All views of a window behind one interface: napari's canvas, or linked views in its place.

Only this module knows how views are made, as napari's own support for several viewers is
provisional: it finds napari's canvas in the window, puts the linked views in its place, and keeps
position, zoom and windows the same in both.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
from napari.components import ViewerModel
from qtpy.QtCore import QObject, Signal
from qtpy.QtOpenGLWidgets import QOpenGLWidget
from qtpy.QtWidgets import QAbstractSpinBox, QApplication, QLineEdit, QVBoxLayout, QWidget

from lesionlens.base.geometry import as_vec3
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.findings import Point
from lesionlens.napari.controllers.actions import Actions
from lesionlens.napari.loading import KEY
from lesionlens.napari.model.geometry.slices import OrientedVolume
from lesionlens.napari.model.geometry.viewpoint import Viewpoint
from lesionlens.napari.model.screen.board import Board
from lesionlens.napari.model.screen.screen import ShownScene
from lesionlens.napari.model.screen.view_model import ViewModel
from lesionlens.napari.model.state.events import Event, PositionVisited, SlicesRequested
from lesionlens.napari.qt.keyboard import main_window
from lesionlens.napari.qt.waiting import once_idle
from lesionlens.napari.viewer.board_view import BoardView
from lesionlens.napari.viewer.canvas_gestures import CanvasGestures
from lesionlens.napari.viewer.canvas_lines import CanvasLines
from lesionlens.napari.viewer.handover import Handover
from lesionlens.napari.viewer.layers import Layers
from lesionlens.napari.viewer.linked_brush import LinkedBrush
from lesionlens.napari.viewer.mouse import CanvasMouse, send_pointer_move
from lesionlens.napari.viewer.single import SPACE, SingleView
from lesionlens.napari.viewer.slice_bar import SliceBar
from lesionlens.napari.viewer.view_toolbar import ViewToolbar

_COLLECTION_MS = 500
"""Delay of the garbage collection after a study without overlays was closed."""
_IDLE_MS = 150
"""Idle time of linked views before napari's hidden canvas is updated."""


class Views(QObject):
    """The views of one window.

    Parameters
    ----------
    acts : Actions
        Acts of the window, with the viewpoint that all views share.
    run : callable
        Runs a command of the window by its name.
    docked : QWidget
        Any widget of the window, to find its canvas.
    """

    layout_changed = Signal(object, object)
    """Linked views were created in place of napari's canvas: linked views, canvas."""

    def __init__(
        self,
        viewer: ViewerModel,
        layers: Layers,
        acts: Actions,
        run: Callable[[str], object],
        docked: QWidget,
    ) -> None:
        super().__init__(docked)
        viewpoint = acts.viewpoint
        self._acts, self._run = acts, run
        self.toolbar: ViewToolbar | None = None
        self.bar: SliceBar | None = None
        self.single = SingleView(viewer)
        self.lines = CanvasLines(viewer)
        self.linked: BoardView | None = None
        self._gestures, self._brush = CanvasGestures(viewer, acts), LinkedBrush(acts)
        self._viewer, self._layers, self._docked = viewer, layers, docked
        self._viewpoint = viewpoint
        self._handover = Handover(viewer, self.single, viewpoint)
        self.canvas: QWidget | None = None
        self._board = Board()
        self._is_moving = self._is_turning = False
        self._pictures: dict[MrSequence, OrientedVolume] = {}
        self._mouse = CanvasMouse(viewer, acts.scroll, self._drag_window)
        self._applied_scene = self._scene = ShownScene()
        self._idle_timer = once_idle(self.settle, self, _IDLE_MS)
        self._collection = once_idle(gc.collect, self)
        viewpoint.changed.connect(self._on_viewpoint)
        viewer.dims.events.point.connect(self._on_point)
        viewer.dims.events.order.connect(self._draw_lines)
        viewer.events.reset_view.connect(self._on_reset)

    # --- shown ----------------------------------------------------------------------------

    def set_wheel(self, *, zooms: bool) -> None:
        """Let the wheel zoom and Ctrl+wheel scroll, or the reverse."""
        self._mouse.wheel_zooms = zooms
        if self.linked is not None:
            self.linked.wheel_zooms = zooms

    def paint(self, before: ViewModel, model: ViewModel) -> None:
        """Paint the differences between two models on the layers and views."""
        if model.study is not before.study:
            self._keep_position(
                lambda: self._layers.remove_other_studies(model.study, model.suspended_study)
            )
            if model.study is not None:
                self.single.set_up()
                self._mouse.listen()
        if model.board.overlays is not before.board.overlays:
            self._show_overlays(before, model)
        elif model.study is not before.study is not None:
            self._collection.start(_COLLECTION_MS)
        self.show(model)

    def _show_overlays(self, before: ViewModel, model: ViewModel) -> None:
        is_empty = not any(KEY in layer.metadata for layer in self._viewer.layers)
        self._keep_position(lambda: self._layers.show_overlays(model.board.overlays, model.study))
        if before.board.overlays is None or model.board.overlays is None:
            self._collection.start(0)
        if is_empty:
            self.fit()

    def show(self, model: ViewModel) -> None:
        """Show a model in the chosen views."""
        board, previous = model.board, self._scene
        scene = self._scene = board.scene
        self.single.watch(self._layers.image_layer(scene.sequence))
        if scene.choices.plane is not previous.choices.plane:
            self.single.restore_orientation()
        self._is_turning = True
        self.single.show_plane(scene.choices.plane)
        self._is_turning = False
        self.single.caption(model.screen.study.caption)
        self.single.identify(board.corner)
        self._board = board
        if self.linked is None and board.opened:
            self._create_linked_views()
        if self.linked is not None and not board.opened:
            self._pictures = {}
            self.linked.forget()
            self.lines.forget()
        self._update_layout()
        if self._is_linked:
            self._idle_timer.start()
        else:
            self.settle()
        self._update_bars()

    def handle(self, event: Event) -> None:
        """Handle an event: centre a position, leave 3-D, or apply a window preset."""
        if isinstance(event, PositionVisited):
            self.go_to(event.point_mm, event.box_mm)
        elif isinstance(event, SlicesRequested):
            self._viewer.dims.ndisplay = 2
        else:
            self._layers.choose_window(event.window)

    def _update_bars(self) -> None:
        if self.toolbar is not None and self.bar is not None:
            self.toolbar.show_board(self._board, linked=self._is_linked)
            self.bar.show_board(self._board, is_2d=self._viewer.dims.ndisplay < SPACE)

    def settle(self) -> None:
        """Update napari's layers and sliders."""
        self._idle_timer.stop()
        applied, self._applied_scene = self._applied_scene, self._scene
        self._layers.apply(applied, self._scene)
        self._move_sliders(self._viewpoint.current)
        self._draw_lines()

    def show_dimensions(self) -> None:
        """Show napari's canvas in three dimensions, the chosen views in two."""
        self.settle()
        self._layers.show_dimensions(self._scene)
        self._update_layout()
        self._update_bars()
        self._draw_lines()
        if self._viewer.dims.ndisplay == SPACE:
            self.single.show_3d_overview()

    def go_to(self, point_mm: Point, box_mm: tuple[Point, Point] | None = None) -> None:
        """Centre a point in every view."""
        if self._shown_board is not None:
            self._shown_board.go_to(point_mm, box_mm)
        else:
            self.single.go_to(point_mm, box_mm)

    def fit(self) -> None:
        """Fit the study into the views, at its centre."""
        self.single.fit()
        if self._shown_board is not None:
            self._shown_board.fit()

    def on_images_loaded(self) -> None:
        """Paint a study's first image immediately, and focus it.

        Tab then leads to the panel. A text field being edited keeps the focus.
        """
        visible = self._shown_board or self.canvas
        if visible is not None:
            if not isinstance(QApplication.focusWidget(), QLineEdit | QAbstractSpinBox):
                visible.setFocus()
            visible.repaint()

    def adopt(self, layer: Any) -> None:
        """Use a layer as the image of its sequence, with one window in all views."""
        layer.events.contrast_limits.connect(self.repaint)
        self._update_pictures()

    def release(self) -> None:
        """Restore napari's canvas."""
        self._idle_timer.stop()
        self._viewpoint.changed.disconnect(self._on_viewpoint)
        self._viewer.dims.events.point.disconnect(self._on_point)
        self._viewer.dims.events.order.disconnect(self._draw_lines)
        self._viewer.events.reset_view.disconnect(self._on_reset)
        for layer in self._viewer.layers:
            if hasattr(layer.events, "contrast_limits"):
                layer.events.contrast_limits.disconnect(self.repaint)
        self._gestures.release()
        self._mouse.release()
        self.lines.release()
        self.single.tear_down()
        if self.linked is not None:
            self.linked.release()
            self._show_linked(linked=False)
        if self.bar is not None:
            self.bar.release()
        for widget in (self.linked, self.toolbar, self.bar):
            if widget is not None:
                widget.hide()
                widget.deleteLater()
        self.linked = self.toolbar = self.bar = None

    # --- layout -----------------------------------------------------------------

    @property
    def _shown_board(self) -> BoardView | None:
        """The linked views, if they are shown in place of napari's canvas."""
        return None if self.linked is None or self.linked.isHidden() else self.linked

    @property
    def _is_linked(self) -> bool:
        return self._shown_board is not None

    def _update_layout(self) -> None:
        """Show the linked views if the layout has any, else napari's canvas."""
        board = self._board
        show_linked = bool(board.tiles) and self._viewer.dims.ndisplay == 2
        if self.linked is None:
            return
        if show_linked:
            self._update_pictures()
            self.linked.show_board(board)
        if show_linked is not self._is_linked:
            self._show_linked(linked=show_linked)
            if show_linked:
                self._handover.enter(self.linked)
            else:
                self.settle()
                self._handover.leave(self.linked)

    def _create_linked_views(self) -> None:
        """Create the linked views in place of napari's canvas, once the panel is docked."""
        window = main_window(self._docked)
        central = None if window is None else window.centralWidget()
        canvas = None if central is None else central.findChild(QOpenGLWidget)
        parent = None if canvas is None else canvas.parentWidget()
        layout = None if parent is None else parent.layout()
        if parent is None or not isinstance(layout, QVBoxLayout):
            return
        view = self._board_view(parent)
        view.hide()
        self.toolbar = ViewToolbar(self._run, parent)
        layout.insertWidget(layout.indexOf(canvas), view, 1)
        layout.insertWidget(0, self.toolbar)
        self.bar = SliceBar(self._acts, parent)
        layout.addWidget(self.bar)
        self.canvas, self.linked = canvas, view
        self.layout_changed.emit(view, canvas)

    def _board_view(self, parent: QWidget) -> BoardView:
        """Return linked views connected to the window's acts."""
        view = BoardView(self._acts, self._brush, self._layers.limits, parent)
        view.wheel_zooms = self._mouse.wheel_zooms
        view.pointed.connect(self._on_pointed)
        view.window_dragged.connect(self._layers.drag_window)
        self._acts.prompting.stroke_ended.connect(view.forget_prompt)
        return view

    def _show_linked(self, *, linked: bool) -> None:
        if self.linked is not None and self.canvas is not None:
            visible, hidden = (self.linked, self.canvas) if linked else (self.canvas, self.linked)
            hidden.hide()  # first, otherwise both would share the height for a moment
            visible.show()
            visible.setFocus()

    # --- shared position -------------------------------------------------------------------

    def _on_point(self) -> None:
        dims = self._viewer.dims
        if not self._is_moving and dims.ndim >= SPACE:
            self._is_moving = True
            self._viewpoint.move(point_mm=as_vec3(dims.point[-SPACE:]))
            self._is_moving = False
            self._draw_lines()

    def _draw_lines(self) -> None:
        """Draw outlines on napari's canvas, if it is visible."""
        if not self._is_linked:
            self.lines.show(self._board, self._viewpoint.current)

    def _on_viewpoint(self, viewpoint: Viewpoint) -> None:
        """Update napari's sliders: at once if its canvas is visible, otherwise delayed."""
        if self._is_moving:
            return
        if self._is_linked:
            self._idle_timer.start()
        else:
            self._move_sliders(viewpoint)

    def _move_sliders(self, viewpoint: Viewpoint) -> None:
        dims = self._viewer.dims
        extra_dims = dims.ndim - SPACE
        if extra_dims < 0 or np.allclose(dims.point[-SPACE:], viewpoint.point_mm):
            return
        self._is_moving = True
        dims.set_point(tuple(range(extra_dims, dims.ndim)), viewpoint.point_mm)
        self._is_moving = False
        self._draw_lines()

    def _keep_position(self, change: Callable[[], object]) -> None:
        """Change layers and keep the position, which napari would round to their steps."""
        self._is_moving = True
        gc.freeze()  # napari collects at each removed layer: .4 s a layer with all that exists
        try:
            change()
        finally:
            gc.unfreeze()
        self._is_moving = False
        self._move_sliders(self._viewpoint.current)

    def _on_pointed(self, point_mm: Point) -> None:
        """Pass the position of the pointer to napari, for keys that use it."""
        extra_position = (0.0,) * (self._viewer.dims.ndim - SPACE)
        self._viewer.cursor.position = (*extra_position, *point_mm)

    def update_pointer(self) -> bool | None:
        """Update the pointer; return whether it is on a slice of the open study.

        None without a visible window.
        """
        if self._viewer.dims.ndisplay != 2:
            return False
        linked, canvas = self.linked, self.canvas
        if linked is None or canvas is None or not (canvas.isVisible() or linked.isVisible()):
            return None
        tiles = [view for view in linked.tiles if not linked.shows_other_examination(view.tile)]
        return send_pointer_move((canvas, *tiles))

    def _on_reset(self) -> None:
        if self._shown_board is not None and not self._is_turning:
            self._shown_board.fit()

    # --- voxels and brightness ------------------------------------------------------------

    def _update_pictures(self) -> None:
        if self.linked is None:
            return
        pictures = self._layers.voxels_by_sequence()
        current = {sequence: id(picture.source) for sequence, picture in self._pictures.items()}
        if current != {sequence: id(data) for sequence, (data, _) in pictures.items()}:
            self._pictures = {
                s: OrientedVolume.of(data, grid) for s, (data, grid) in pictures.items()
            }
            self.linked.set_pictures(self._pictures)

    def repaint(self) -> None:
        """Paint the linked views again."""
        if self.linked is not None:
            self.linked.repaint_all()

    def _drag_window(self, right: float, down: float) -> None:
        if self._board.scene.sequence is not None:
            self._layers.drag_window(self._board.scene.sequence, right, down)
