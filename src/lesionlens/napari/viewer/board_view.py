"""The linked views: tiles with a shared viewpoint, drawn from the same voxels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QGridLayout, QWidget

from lesionlens.base.geometry import as_vec3, corners
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.findings import Point
from lesionlens.napari.model.choices.gestures import gesture_of, traced
from lesionlens.napari.model.geometry.planes import Plane, value_words
from lesionlens.napari.model.geometry.slices import Picture
from lesionlens.napari.model.geometry.strokes import Slab
from lesionlens.napari.model.geometry.viewpoint import SharedViewpoint, Viewpoint
from lesionlens.napari.model.overlays.window_level import Limits
from lesionlens.napari.model.screen.board import Board, Tile
from lesionlens.napari.model.screen.drawing import Artist, Drawing
from lesionlens.napari.model.screen.drawn_outline import Lines, OutlineArtist
from lesionlens.napari.viewer.brush import Brush
from lesionlens.napari.viewer.dragged_ends import DraggedEnds
from lesionlens.napari.viewer.other_study import OtherStudy
from lesionlens.napari.viewer.single import ROOM
from lesionlens.napari.viewer.tile import TileView

ZOOM_STEP = 1.15
_FILL = 0.96


class BoardView(QWidget):
    """Shows a board; the mouse moves the viewpoint shared by all views.

    Parameters
    ----------
    limits_of : callable
        Returns the values of a sequence that are shown black and white.
    """

    probe_requested = Signal(object)
    """A voxel is to be probed: RAS+ mm."""
    lesion_requested = Signal(object)
    """A lesion is to be added: RAS+ mm."""
    prompted = Signal(object)
    """The reader made a prompt: a `Gesture`."""
    pointed = Signal(object)
    """The pointer is over a point: RAS+ mm."""
    window_dragged = Signal(object, float, float)
    """Window dragged: sequence, pixels to the right, pixels down."""

    def __init__(
        self, viewpoint: SharedViewpoint, limits_of: Callable[[MrSequence], Limits], parent: QWidget
    ) -> None:
        super().__init__(parent)
        self.setObjectName("lesionlens_board")
        self.wheel_zooms = False
        self.follows = False
        """Whether the zoom is controlled by another window, and not fitted here."""
        self.prompting: Callable[[], bool] = lambda: False
        """Whether the pointer makes prompts."""
        self.excluding: Callable[[], bool] = lambda: False
        """Whether prompts exclude unless Alt is held."""
        self.brush: Brush | None = None
        """Handles the pointer while an outline is drawn."""
        self._outlines = OutlineArtist()
        self._viewpoint, self._limits_of = viewpoint, limits_of
        self.board = Board()
        self._alone: int | None = None
        self._artist = Artist({})
        self._other: OtherStudy | None = None
        self._fitted = True
        self._turns = 0.0
        self.ends = DraggedEnds(lambda: self.board, self)
        self._foot: tuple[Tile, str] | None = None
        self.tiles: tuple[TileView, ...] = ()
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(2)
        self._grid = grid
        self.setStyleSheet("#lesionlens_board { background: #303440; }")
        viewpoint.changed.connect(self._moved)

    def release(self) -> None:
        """Disconnect from the viewpoint."""
        self._viewpoint.changed.disconnect(self._moved)

    def show_board(self, board: Board) -> None:
        """Show a board; existing views are kept if the layout is unchanged."""
        before, self.board = self.board, board
        if before.tiles != board.tiles:
            same = _rooms(before.tiles) == _rooms(board.tiles)
            self._alone = self._alone if same else None
            self._lay_out()
        self.repaint_all()

    def take(self, pictures: Mapping[MrSequence, Picture]) -> None:
        """Set the images to draw."""
        self._artist = Artist(pictures)
        self._other = None
        self.repaint_all()

    def forget(self) -> None:
        """Release a closed study."""
        self.board, self._foot = Board(), None
        self.ends.forget()
        self._artist = Artist({})
        self._other = None
        self.repaint_all()

    def repaint_all(self) -> None:
        """Schedule a repaint of every view."""
        for view in self.tiles:
            view.update()

    def _moved(self, _: Viewpoint) -> None:
        self._foot = None
        self.repaint_all()

    def _shown(self) -> tuple[Tile, ...]:
        tiles = self.board.tiles
        if self._alone is None or self._alone >= len(tiles):
            return tiles
        return (replace(tiles[self._alone], row=0, column=0, rows=1),)

    def _lay_out(self) -> None:
        """Create the views of the layout, reusing existing ones."""
        shown = self._shown()
        if len(shown) == len(self.tiles) and _rooms(shown) == _rooms(v.tile for v in self.tiles):
            for view, tile in zip(self.tiles, shown, strict=True):
                view.tile = tile
            return
        for view in self.tiles:
            self._grid.removeWidget(view)
            view.hide()
            view.deleteLater()
        self.tiles = tuple(TileView(tile, self, self) for tile in shown)
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
        self._fitted = True
        self._grid.activate()  # sizes must be known before going to a candidate
        self.resized()

    # --- navigation -----------------------------------------------------------------------

    def fit(self) -> None:
        """Fit the whole volume into every view."""
        pictures = [self._artist.pictures.get(view.tile.sequence) for view in self.tiles]
        first = next((picture for picture in pictures if picture is not None), None)
        if first is not None:
            middle = first.grid.to_mm((np.asarray(first.grid.shape) - 1) / 2)
            self._fitted = True
            self._viewpoint.move(centre_mm=as_vec3(middle), zoom=self.whole_zoom())

    @property
    def zoomed(self) -> bool:
        """Whether the reader zoomed or moved the views."""
        return not self._fitted

    def whole_zoom(self) -> float:
        """Return the zoom that fits the volume into every view."""
        zooms = []
        for view in self.tiles:
            drawing = self.drawing(view.tile)
            if drawing is not None and drawing.image is not None:
                width, height = drawing.image.size
                zooms.append(_FILL * min(view.width() / width, view.height() / height))
        return min(zooms, default=self._viewpoint.now.zoom)

    def go_to(self, point_mm: Point, box_mm: tuple[Point, Point] | None = None) -> None:
        """Centre a point in every view, and zoom out if a box is larger than a view."""
        zoom = self._viewpoint.now.zoom
        if box_mm is not None:
            ends = corners(*box_mm)
            for view in self.tiles:
                flat = self.board.frame.on_screen(view.tile.plane, ends)
                room = ROOM * np.maximum(np.ptp(flat, axis=0), 1.0)
                zoom = min(zoom, view.width() / room[0], view.height() / room[1])
        self._fitted = self._fitted and zoom == self._viewpoint.now.zoom
        self._viewpoint.move(point_mm=point_mm, centre_mm=point_mm, zoom=zoom)

    def go_to_point(self, centre_mm: Point) -> None:
        """Centre every view on a point."""
        self._fitted = False
        self._viewpoint.move(centre_mm=centre_mm)

    def in_sight(self, plane: Plane, points_mm: NDArray[np.float64]) -> bool:
        """Whether a view of a plane is wide enough to show one of some points, (N, 3) RAS+ mm."""
        now, frame = self._viewpoint.now, self.board.frame
        away = np.abs(frame.on_screen(plane, points_mm - np.array(now.centre_mm))) * now.zoom
        views = [view for view in self.tiles if view.tile.plane is plane]
        return any((away <= (view.width() / 2, view.height() / 2)).all(1).any() for view in views)

    # --- called by the tiles --------------------------------------------------------------

    def drawing(self, tile: Tile) -> Drawing | None:
        """Return the content of a tile."""
        if not self.board.opened:
            return None
        other = self._compared(tile)
        if other is None:
            drawn = self._artist.draw(self.board, tile, self._viewpoint.now)
            by_hand = self._drawn_by_hand(tile)
            return replace(drawn, outlines=drawn.outlines + by_hand) if by_hand else drawn
        return other.draw(self.board, tile, self._viewpoint.now)

    def _drawn_by_hand(self, tile: Tile) -> Lines:
        outline = None if self.brush is None or tile.prior else self.brush.outline
        if outline is None:
            return ()
        frame = self.board.frame
        depth = float(frame.depth(tile.plane, self._viewpoint.now.point_mm))
        return self._outlines.lines(outline, frame, tile.plane, depth)

    def _draw_at(self, point: Point, slab: Slab | None) -> bool:
        return self.brush is not None and slab is not None and self.brush.press(point, slab)

    def brush_mm(self) -> float | None:
        """Return the radius of the brush; None if the pointer does not draw."""
        return None if self.brush is None else self.brush.radius_mm

    def _slab(self, tile: Tile) -> Slab | None:
        picture = self._artist.pictures.get(tile.sequence)
        if picture is None or self._compared(tile) is not None:
            return None
        frame, plane = self.board.frame, tile.plane
        depth = float(frame.depth(plane, self._viewpoint.now.point_mm))
        middle = picture.depth_of(frame, plane, picture.number_at(frame, plane, depth))
        return Slab(frame.normal(plane), middle, picture.step_mm(frame, plane))

    def _compared(self, tile: Tile) -> OtherStudy | None:
        """Return the images shown instead of a tile's, if any."""
        views = self.board.views
        compared = views.compared if views.swapped or tile.prior else None
        if compared is None or tile.sequence not in compared.volumes:
            return None
        if self._other is None or self._other.compared is not compared:
            self._other = OtherStudy.of(compared)
        return self._other

    def limits(self, tile: Tile) -> Limits:
        """Return the values shown black and white."""
        other = self._compared(tile)
        return self._limits_of(tile.sequence) if other is None else other.limits[tile.sequence]

    def zoom(self) -> float:
        """Return the zoom, pixels per millimetre."""
        return self._viewpoint.now.zoom

    def corner(self, tile: Tile) -> tuple[str, ...]:
        """Return the patient's identity and the series, unless hidden."""
        if not self.board.corner or self._compared(tile) is not None:
            return ()  # the comparison has its own texts
        series = self.board.series.get(tile.sequence)
        return (*self.board.corner, *(() if series is None else (series,)))

    def foot(self, tile: Tile) -> str:
        """Return the value under the pointer, else the window."""
        if self._foot is not None and self._foot[0] == tile:
            return self._foot[1]
        low, high = self.limits(tile)
        return f"W {value_words(high - low)}  L {value_words((low + high) / 2)}"

    def pressed(self, tile: Tile, at: tuple[float, float], *, ask: bool) -> None:
        """Draw, grab a ruler's end, or else move the crosshair; `ask` probes the voxel too."""
        point, slab = self._patient(tile, at), self._slab(tile)
        if not ask and (self._draw_at(point, slab) or self._drag_end(tile, at, point)):
            return
        self._viewpoint.move(point_mm=point)
        if ask:
            self.probe_requested.emit(point)

    def added_at(self, tile: Tile, at: tuple[float, float]) -> None:
        """Move the crosshair and add the lesion there."""
        if self.board.editing:
            self.pressed(tile, at, ask=False)
            return
        point = self._patient(tile, at)
        self._viewpoint.move(point_mm=point)
        self.lesion_requested.emit(point)

    def prompted_along(
        self, tile: Tile, path: Sequence[tuple[float, float]], moved: bool, modifiers: set[str]
    ) -> None:
        """Emit a prompt."""
        points = [self._patient(tile, at) for at in traced(path, moved, modifiers)]
        self._viewpoint.move(point_mm=points[0])
        self.prompted.emit(gesture_of(points, moved, modifiers))

    def _drag_end(self, tile: Tile, at: tuple[float, float], point: Point) -> bool:
        drawing = self.drawing(tile)
        if drawing is None:
            return False
        rulers = self._artist.rulers(self.board)
        return self.ends.drag(drawing, rulers, at, point, pixels_per_mm=self.zoom())

    def released(self) -> None:
        """Release a ruler, a measurement or the brush."""
        if self.brush is not None:
            self.brush.lift()
        self.ends.let_go()

    def _patient(self, tile: Tile, at: tuple[float, float]) -> Point:
        frame = self.board.frame
        depth = float(frame.depth(tile.plane, self._viewpoint.now.point_mm))
        return as_vec3(frame.in_patient(tile.plane, at, depth))

    def dragged(self, tile: Tile, by: tuple[float, float], *, window: bool) -> None:
        """Move all views by pixels, or change a sequence's window."""
        other = self._compared(tile)
        if window and other is not None:
            other.drag(tile.sequence, by)
            self.repaint_all()
        elif window:
            self.window_dragged.emit(tile.sequence, *by)
        else:
            place = self._viewpoint.now
            move = -(np.asarray(by) / place.zoom) @ self.board.frame.screen(tile.plane)
            self._fitted = False
            self._viewpoint.move(centre_mm=as_vec3(np.asarray(place.centre_mm) + move))

    def hovered(self, tile: Tile | None, at: tuple[float, float]) -> None:
        """Show the value under the pointer."""
        before, self._foot = self._foot, None
        if tile is not None:
            point = self._patient(tile, at)
            self.pointed.emit(point)
            self._foot = (tile, self._value(tile, point))
        touched = {kept[0] for kept in (before, self._foot) if kept is not None}
        for view in self.tiles:
            if view.tile in touched:
                view.update()

    def _value(self, tile: Tile, point: Point) -> str:
        other = self._compared(tile)
        if other is None:
            return self._artist.value(self.board, tile, point)
        return other.artist.value(other.board(self.board), tile, point)

    def turned(self, tile: Tile, steps: float, at: tuple[float, float], *, control: bool) -> None:
        """Scroll slices, with Control zoom about the pointer; a preference swaps both."""
        if control is self.wheel_zooms:
            self._turns += steps  # touchpads send fractions of a notch
            by = int(self._turns)
            self._turns -= by
            slices = self.board.slices(tile.plane)
            if slices is not None:
                self._viewpoint.move(point_mm=slices.stepped(self._viewpoint.now.point_mm, by))
            return
        place, frame = self._viewpoint.now, self.board.frame
        zoom = place.zoom * ZOOM_STEP**steps
        away = np.asarray(at) - frame.on_screen(tile.plane, place.centre_mm)
        move = away * (1 - place.zoom / zoom) @ frame.screen(tile.plane)
        self._fitted = False
        self._viewpoint.move(centre_mm=as_vec3(np.asarray(place.centre_mm) + move), zoom=zoom)

    def doubled(self, tile: Tile) -> None:
        """Show this view alone, or all views again."""
        if len(self.board.tiles) < 2:
            return
        places = [(one.sequence, one.plane, one.prior) for one in self.board.tiles]
        here = (tile.sequence, tile.plane, tile.prior)
        self._alone = places.index(here) if self._alone is None else None
        self._lay_out()
        self.repaint_all()

    def resized(self) -> None:
        """Fit again unless the reader zoomed or moved."""
        if self._fitted and not self.follows:
            self._viewpoint.move(zoom=self.whole_zoom())


def _rooms(tiles: Iterable[Tile]) -> tuple[tuple[int, int, int], ...]:
    return tuple((tile.row, tile.column, tile.rows) for tile in tiles)
