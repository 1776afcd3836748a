"""The linked views: tiles with a shared viewpoint, drawn from the same voxels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtGui import QHideEvent
from qtpy.QtWidgets import QGridLayout, QWidget

from lesionlens.base.geometry import as_vec3, corners
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.findings import Point
from lesionlens.napari.controllers.actions import Actions
from lesionlens.napari.model.choices.gestures import gesture_of, traced
from lesionlens.napari.model.geometry.planes import Plane, intensity_text
from lesionlens.napari.model.geometry.slices import OrientedVolume
from lesionlens.napari.model.geometry.strokes import Slab
from lesionlens.napari.model.geometry.viewpoint import Viewpoint
from lesionlens.napari.model.overlays.window_level import Limits
from lesionlens.napari.model.screen.board import Board, Tile
from lesionlens.napari.model.screen.drawing import Drawing, TilePainter
from lesionlens.napari.viewer.dragged_ends import EndDragger
from lesionlens.napari.viewer.linked_brush import LinkedBrush
from lesionlens.napari.viewer.other_study import ComparedImages
from lesionlens.napari.viewer.single import ROOM
from lesionlens.napari.viewer.tile import PromptPath, TileView
from lesionlens.napari.viewer.wheel import WheelSteps

ZOOM_STEP = 1.15
_FIT_MARGIN = 0.96
_OTHER_EXAMINATION = "This view shows another examination: point in a view of the open study."


class BoardView(QWidget):
    """Shows a board; the mouse moves the viewpoint shared by all views.

    `limits_of` returns the values of a sequence that are shown black and white.
    """

    pointed = Signal(object)
    """The pointer is over a point of the open study: RAS+ mm."""
    window_dragged = Signal(object, float, float)
    """Window dragged: sequence, pixels to the right, pixels down."""

    def __init__(
        self,
        acts: Actions,
        brush: LinkedBrush,
        limits_of: Callable[[MrSequence], Limits],
        parent: QWidget,
    ) -> None:
        super().__init__(parent)
        self.setObjectName("lesionlens_board")
        self.wheel_zooms = False
        self._acts, self._brush, self._limits_of = acts, brush, limits_of
        self._viewpoint = acts.viewpoint
        self.board = Board()
        self._maximised: int | None = None
        self._artist = TilePainter({})
        self._comparison_view: ComparedImages | None = None
        self.is_fitted = True
        """Whether the reader neither zoomed nor moved the views."""
        self._wheel_steps = WheelSteps()
        self._ends = EndDragger(lambda: self.board, acts)
        self._hover: tuple[Tile, Point] | None = None
        self.tiles: tuple[TileView, ...] = ()
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(2)
        self._grid = grid
        self.setStyleSheet("#lesionlens_board { background: #303440; }")
        self._viewpoint.changed.connect(self._on_viewpoint)

    def release(self) -> None:
        """Disconnect from the viewpoint."""
        self._viewpoint.changed.disconnect(self._on_viewpoint)

    def show_board(self, board: Board) -> None:
        """Show a board; existing views are kept if the layout is unchanged."""
        previous, self.board = self.board, board
        if _directions(previous) != _directions(board):
            self.forget_prompt()
        if previous.tiles != board.tiles:
            same_layout = _cells(previous.tiles) == _cells(board.tiles)
            self._maximised = self._maximised if same_layout else None
            self._update_grid()
        self.repaint_all()

    def set_pictures(self, pictures: Mapping[MrSequence, OrientedVolume]) -> None:
        """Set the images to draw."""
        self._artist = TilePainter(pictures)
        self._comparison_view = None
        self.repaint_all()

    def forget(self) -> None:
        """Release a closed study."""
        self.board, self._hover = Board(), None
        self._ends.forget()
        self.forget_prompt()
        self._artist = TilePainter({})
        self._comparison_view = None
        self.repaint_all()

    def forget_prompt(self) -> None:
        """Drop the prompt being drawn."""
        for view in self.tiles:
            view.forget_prompt()

    def repaint_all(self) -> None:
        """Schedule a repaint of every view."""
        for view in self.tiles:
            view.update()

    def _on_viewpoint(self, _: Viewpoint) -> None:
        self._hover = None
        self.repaint_all()

    def _visible_tiles(self) -> tuple[Tile, ...]:
        tiles = self.board.tiles
        if self._maximised is None or self._maximised >= len(tiles):
            return tiles
        return (replace(tiles[self._maximised], row=0, column=0, rows=1),)

    def _update_grid(self) -> None:
        """Create the views of the layout, reusing existing ones."""
        visible = self._visible_tiles()
        if len(visible) == len(self.tiles) and _cells(visible) == _cells(
            v.tile for v in self.tiles
        ):
            for view, tile in zip(self.tiles, visible, strict=True):
                view.tile = tile
            return
        self.released()  # a view that goes has no release of the button
        for view in self.tiles:
            self._grid.removeWidget(view)
            view.hide()
            view.deleteLater()
        self.tiles = tuple(TileView(tile, self, self._acts, self) for tile in visible)
        for index in range(4):
            self._grid.setRowStretch(index, 0)
            self._grid.setColumnStretch(index, 0)
        for view in self.tiles:
            tile = view.tile
            self._grid.addWidget(view, tile.row, tile.column, tile.rows, 1)
            self._grid.setColumnStretch(tile.column, 1)
            for row in range(tile.row, tile.row + tile.rows):
                self._grid.setRowStretch(row, 1)
            view.show()
        self.is_fitted = True
        self._grid.activate()  # sizes must be known before going to a candidate
        self.resized()

    def hideEvent(self, event: QHideEvent) -> None:
        """End a drag: the button is released elsewhere."""
        super().hideEvent(event)
        self.released()

    # --- navigation -----------------------------------------------------------------------

    def fit(self) -> None:
        """Fit the whole volume into every view."""
        pictures = [self._artist.pictures.get(view.tile.sequence) for view in self.tiles]
        picture = next((p for p in pictures if p is not None), None)
        if picture is not None:
            centre = picture.grid.to_mm((np.asarray(picture.grid.shape) - 1) / 2)
            self.is_fitted = True
            self._viewpoint.move(centre_mm=as_vec3(centre), zoom=self.fit_zoom())

    def fit_zoom(self) -> float:
        """Return the zoom that fits the volume into every view."""
        zooms = []
        for view in self.tiles:
            drawing = self.drawing(view.tile)
            if drawing is not None and drawing.image is not None:
                width, height = drawing.image.size
                zooms.append(_FIT_MARGIN * min(view.width() / width, view.height() / height))
        return min(zooms, default=self._viewpoint.current.zoom)

    def go_to(self, point_mm: Point, box_mm: tuple[Point, Point] | None = None) -> None:
        """Centre a point in every view, and zoom out if a box is larger than a view."""
        zoom = self._viewpoint.current.zoom
        if box_mm is not None:
            box_corners = corners(*box_mm)
            for view in self.tiles:
                on_screen = self.board.frame.on_screen(view.tile.plane, box_corners)
                extent = ROOM * np.maximum(np.ptp(on_screen, axis=0), 1.0)
                zoom = min(zoom, view.width() / extent[0], view.height() / extent[1])
        self.is_fitted = self.is_fitted and zoom == self._viewpoint.current.zoom
        self._viewpoint.move(point_mm=point_mm, centre_mm=point_mm, zoom=zoom)

    def go_to_point(self, centre_mm: Point) -> None:
        """Centre every view on a point."""
        self.is_fitted = False
        self._viewpoint.move(centre_mm=centre_mm)

    # --- called by the tiles --------------------------------------------------------------

    def drawing(self, tile: Tile) -> Drawing | None:
        """Return the content of a tile."""
        if not self.board.opened:
            return None
        comparison = self._comparison_of(tile)
        if comparison is not None:
            return comparison.draw(self.board, tile, self._viewpoint.current)
        drawn = None if tile.prior else self._acts.editor.outline
        return self._artist.draw(self.board, tile, self._viewpoint.current, drawn)

    def _press_brush(self, tile: Tile, point: Point) -> bool:
        if self._brush.takes_pointer and self._refused_in(tile):
            self._brush.interrupt()
            return True
        return self._brush.press(point, self._slab(tile))

    def brush_mm(self, tile: Tile) -> float | None:
        """Return the radius of the brush; None if the pointer does not draw in a tile."""
        return self._acts.editor.brush_mm if self._comparison_of(tile) is None else None

    def _slab(self, tile: Tile) -> Slab | None:
        """Return the slice of a tile; None where it shows no sequence of the study.

        It is the acquired one. Where a tile is interpolated, it is that of the sequence that the
        planes follow, if it has one there: a thinner one could lie astride two of its slices.
        """
        picture = self._artist.pictures.get(tile.sequence)
        if picture is None or self._comparison_of(tile) is not None:
            return None
        frame, plane = self.board.frame, tile.plane
        depth = float(frame.depth(plane, self._viewpoint.current.point_mm))
        followed = None if picture.straight(frame) else self.board.acquired_slices(plane)
        if followed is not None:
            number = int(np.floor((depth - followed.first_mm) / followed.step_mm + 0.5))
            if 0 <= number < followed.count:
                centre_depth = followed.first_mm + number * followed.step_mm
                return Slab(frame.normal(plane), centre_depth, followed.step_mm)
        centre_depth = picture.depth_of(frame, plane, picture.number_at(frame, plane, depth))
        return Slab(frame.normal(plane), centre_depth, picture.step_mm(frame, plane))

    def _comparison_of(self, tile: Tile) -> ComparedImages | None:
        """Return the images shown instead of a tile's, if any."""
        views = self.board.views
        compared = views.compared if views.swapped or tile.prior else None
        if compared is None or tile.sequence not in compared.volumes:
            return None
        if self._comparison_view is None or self._comparison_view.compared is not compared:
            self._comparison_view = ComparedImages.of(compared)
        return self._comparison_view

    def shows_other_examination(self, tile: Tile) -> bool:
        """Whether a tile shows another examination, where acts on the open study are refused."""
        comparison = self._comparison_of(tile)
        return comparison is not None and not comparison.compared.other_image

    def _refused_in(self, tile: Tile) -> bool:
        is_other = self.shows_other_examination(tile)
        return self._acts.session.refuses(_OTHER_EXAMINATION if is_other else "")

    def limits(self, tile: Tile) -> Limits:
        """Return the values shown black and white."""
        comparison = self._comparison_of(tile)
        if comparison is not None:
            return comparison.limits[tile.sequence]
        return self._limits_of(tile.sequence)

    def corner(self, tile: Tile) -> tuple[str, ...]:
        """Return the patient's identity and the series, unless hidden."""
        if not self.board.corner or self._comparison_of(tile) is not None:
            return ()  # the comparison has its own texts
        series = self.board.series.get(tile.sequence)
        return (*self.board.corner, *(() if series is None else (series,)))

    def footer(self, tile: Tile) -> str:
        """Return the value under the pointer, else the window."""
        if self._hover is not None and self._hover[0] == tile:
            return self._value_at(*self._hover)
        low, high = self.limits(tile)
        return f"W {intensity_text(high - low)}  L {intensity_text((low + high) / 2)}"

    def pressed(self, tile: Tile, position: tuple[float, float]) -> None:
        """Draw, grab a ruler's end, or else move the crosshair."""
        point = self._point_at(tile, position)
        if not (self._press_brush(tile, point) or self._drag_end(tile, position, point)):
            self._viewpoint.move(point_mm=point)

    def lesion_added(self, tile: Tile, position: tuple[float, float]) -> None:
        """Move the crosshair and add the lesion there."""
        point = self._point_at(tile, position)
        self._viewpoint.move(point_mm=point)
        if not self._refused_in(tile):
            self._acts.add_lesion_at(point)

    def prompt_drawn(self, drawn: PromptPath) -> None:
        """Prompt on the slice where the path was begun."""
        if self._refused_in(drawn.tile):
            return
        frame, plane = self.board.frame, drawn.tile.plane
        moved, modifiers = drawn.moved, drawn.modifiers
        depth = float(frame.depth(plane, drawn.crosshair_mm))
        points = [
            as_vec3(frame.in_patient(plane, position, depth))
            for position in traced(drawn.path, modifiers, is_drag=moved)
        ]
        self._viewpoint.move(point_mm=points[0])
        self._acts.prompting.add_gesture(gesture_of(points, modifiers, is_drag=moved))

    def _drag_end(self, tile: Tile, position: tuple[float, float], point: Point) -> bool:
        drawing = self.drawing(tile)
        if drawing is None:
            return False
        rulers = self._artist.rulers(self.board)
        zoom = self._viewpoint.current.zoom
        return self._ends.drag(drawing, rulers, position, point, pixels_per_mm=zoom)

    def released(self) -> None:
        """Release a ruler, a measurement or the brush."""
        self._brush.lift()
        self._ends.release()

    def _point_at(self, tile: Tile, position: tuple[float, float]) -> Point:
        frame = self.board.frame
        depth = float(frame.depth(tile.plane, self._viewpoint.current.point_mm))
        return as_vec3(frame.in_patient(tile.plane, position, depth))

    def dragged(self, tile: Tile, offset_px: tuple[float, float], *, window: bool) -> None:
        """Move all views by pixels, or change a sequence's window."""
        comparison = self._comparison_of(tile)
        if window and comparison is not None:
            comparison.drag(tile.sequence, offset_px)
            self.repaint_all()
        elif window:
            self.window_dragged.emit(tile.sequence, *offset_px)
        else:
            viewpoint = self._viewpoint.current
            shift_mm = -(np.asarray(offset_px) / viewpoint.zoom) @ self.board.frame.screen(
                tile.plane
            )
            self.is_fitted = False
            self._viewpoint.move(centre_mm=as_vec3(np.asarray(viewpoint.centre_mm) + shift_mm))

    def hovered(self, tile: Tile | None, position: tuple[float, float]) -> None:
        """Show the value under the pointer."""
        previous, self._hover = self._hover, None
        if tile is not None:
            point = self._point_at(tile, position)
            if not self.shows_other_examination(tile):
                self.pointed.emit(point)
            self._hover = (tile, point)
        changed_tiles = {hover[0] for hover in (previous, self._hover) if hover is not None}
        for view in self.tiles:
            if view.tile in changed_tiles:
                view.update()

    def _value_at(self, tile: Tile, point: Point) -> str:
        comparison = self._comparison_of(tile)
        if comparison is None:
            return self._artist.value(tile, point)
        return comparison.artist.value(tile, point)

    def wheel_turned(
        self, tile: Tile, steps: float, position: tuple[float, float], *, control: bool
    ) -> None:
        """Scroll slices, with Control zoom about the pointer; a preference swaps both."""
        if control is self.wheel_zooms:
            whole_steps = self._wheel_steps.add(steps)
            slices = self.board.slices(tile.plane)
            if slices is not None:
                self._viewpoint.move(
                    point_mm=slices.stepped(self._viewpoint.current.point_mm, whole_steps)
                )
            return
        viewpoint, frame = self._viewpoint.current, self.board.frame
        zoom = viewpoint.zoom * ZOOM_STEP**steps
        offset_mm = np.asarray(position) - frame.on_screen(tile.plane, viewpoint.centre_mm)
        shift_mm = offset_mm * (1 - viewpoint.zoom / zoom) @ frame.screen(tile.plane)
        self.is_fitted = False
        self._viewpoint.move(
            centre_mm=as_vec3(np.asarray(viewpoint.centre_mm) + shift_mm), zoom=zoom
        )

    def double_clicked(self, tile: Tile) -> None:
        """Show this view alone, or all views again; its first click began no measurement."""
        self._acts.drop_point()
        if len(self.board.tiles) < 2:
            return
        keys = [(other.sequence, other.plane, other.prior) for other in self.board.tiles]
        key = (tile.sequence, tile.plane, tile.prior)
        self._maximised = keys.index(key) if self._maximised is None else None
        self._update_grid()
        self.repaint_all()

    def resized(self) -> None:
        """Fit again unless the reader zoomed or moved."""
        if self.is_fitted:
            self._viewpoint.move(zoom=self.fit_zoom())


def _directions(board: Board) -> tuple[bytes, tuple[Plane, ...]]:
    """Return in which directions of the patient the views lie."""
    return board.frame.key, tuple(tile.plane for tile in board.tiles)


def _cells(tiles: Iterable[Tile]) -> tuple[tuple[int, int, int], ...]:
    return tuple((tile.row, tile.column, tile.rows) for tile in tiles)
