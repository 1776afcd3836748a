"""Content of one view, ready to be painted; slices and outlines are cached."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.grid import Grid
from lesionlens.base.labels import Label, MrSequence
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.findings import Point
from lesionlens.napari.model.geometry.contours import Line, lines_around
from lesionlens.napari.model.geometry.planes import Edges, Plane, intensity_text, position_text
from lesionlens.napari.model.geometry.rulers import NEAR_MM, Ruler, rulers_of
from lesionlens.napari.model.geometry.slices import OrientedVolume, Slice
from lesionlens.napari.model.geometry.viewpoint import Viewpoint
from lesionlens.napari.model.screen.board import Board, Tile
from lesionlens.napari.model.screen.map_layers import MapLayer
from lesionlens.napari.model.screen.slice_annotations import (
    DrawnMeasure,
    View,
    annotations_of,
    box_of,
    marks_of,
    measures_on,
)

_MAX_CACHED = 96
ORIGINAL_COLOUR, PRIOR_COLOUR = "#FFFFFF", "#0072B2"
T = TypeVar("T")
Outlines = tuple[tuple[str, tuple[Line, ...]], ...]
"""Colour and lines of each outline, in millimetres on the screen."""
Source = tuple[NDArray[Any], Grid]
"""(I, J, K) array and its grid."""


@dataclass(frozen=True, slots=True, eq=False)
class MapDrawing:
    """A map over the slice."""

    role: str
    slice: Slice
    top: float
    opacity: float
    low: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """Content of one view."""

    image: Slice | None
    """Slice of the sequence; None if it is missing."""
    crosshair: tuple[float, float]
    centre: tuple[float, float]
    """(2,): crosshair and centre of the view, millimetres on the screen."""
    edges: Edges
    """Letters of the patient's sides."""
    lines: tuple[str, ...]
    """Texts: sequence and plane; slice and resampling."""
    map: MapDrawing | None = None
    outlines: Outlines = ()
    box: tuple[float, float, float, float] | None = None
    """(left, top, width, height) of the candidate in focus, or None."""
    preliminary: bool = False
    rulers: tuple[DrawnMeasure, ...] = ()
    """Diameters near this slice, numbered as by `rulers_of`."""
    marks: tuple[tuple[int, tuple[float, float]], ...] = ()
    """Number and screen position of each mark near this slice."""
    measures: tuple[DrawnMeasure, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class DrawnOutline:
    """Labels that a reader is drawing."""

    labels: NDArray[np.uint8]
    """(I, J, K) uint8 on the working grid; changes in place."""
    grid: Grid
    version: int
    """Changes with every stroke."""
    colours: tuple[tuple[int, str], ...]
    """Label and colour."""


class TilePainter:
    """Draws the tiles of a board."""

    def __init__(self, pictures: Mapping[MrSequence, OrientedVolume]) -> None:
        self.pictures = pictures
        self._cache: OrderedDict[Any, Any] = OrderedDict()
        self._volumes: dict[str, OrientedVolume] = {}
        self._previous_map: MapLayer | None = None

    def draw(
        self, board: Board, tile: Tile, viewpoint: Viewpoint, drawn: DrawnOutline | None = None
    ) -> Drawing:
        """Return the content of a tile at a viewpoint, with the outline being drawn if any."""
        view = View(board, tile, viewpoint)
        frame, picture = board.frame, self.pictures.get(tile.sequence)
        image = None if picture is None else self._image(view, picture)
        crosshair = frame.on_screen(tile.plane, viewpoint.point_mm)
        centre = frame.on_screen(tile.plane, viewpoint.centre_mm)
        return Drawing(
            image=image,
            crosshair=(float(crosshair[0]), float(crosshair[1])),
            centre=(float(centre[0]), float(centre[1])),
            edges=frame.edges(tile.plane),
            lines=annotations_of(board, tile, picture, image),
            map=self._map(view),
            outlines=self._outlines(view) + self._borders(drawn, view),
            box=box_of(view),
            preliminary=board.scene.outline.preliminary,
            rulers=self._rulers(view),
            marks=marks_of(view),
            measures=() if image is None else measures_on(board, tile, image, picture),
        )

    def rulers(self, board: Board) -> tuple[Ruler, ...]:
        """Return the diameters of the candidate in focus, if they are shown."""
        analysis, number = board.analysis, board.scene.outline.boxed
        if not board.views.rulers or analysis is None or number is None:
            return ()
        dragged = board.views.dragged
        if dragged is not None and dragged.candidate == number:
            return dragged.rulers
        candidate = next((c for c in analysis.findings.candidates if c.id == number), None)
        if candidate is None:
            return ()
        source = analysis.findings.components
        key = ("rulers", id(source), number)
        return self._cached(key, source, lambda: rulers_of(analysis, candidate))

    def _rulers(self, view: View) -> tuple[DrawnMeasure, ...]:
        """Return the diameters near an axial slice: dragged in another plane, none stays axial."""
        frame, plane = view.board.frame, view.tile.plane
        if plane is not Plane.AXIAL:
            return ()
        drawn = []
        for index, ruler in enumerate(self.rulers(view.board)):
            ends = (ruler.start, ruler.end)
            if view.is_near(ends, NEAR_MM):
                drawn.append(DrawnMeasure.ruler(index, frame.on_screen(plane, ends), ruler.text))
        return tuple(drawn)

    def _image(self, view: View, picture: OrientedVolume) -> Slice:
        beyond = np.nan if picture.data.dtype.kind == "f" else 0.0
        return self._cut(view.tile.sequence.value, picture, view, beyond=beyond)

    def value(self, tile: Tile, point_mm: Point) -> str:
        """Return the value of an image at a point of its slice (RAS+ mm), and where it lies."""
        picture, position = self.pictures.get(tile.sequence), position_text(point_mm)
        if picture is None or not picture.grid.contains(picture.grid.nearest_voxel(point_mm)):
            return position
        value = picture.value_at(point_mm)
        text = "no value" if value is None else intensity_text(value)
        return f"{text}  at  {position}"

    def _cut(self, name: str, picture: OrientedVolume, view: View, **options: Any) -> Slice:
        frame, plane = view.board.frame, view.tile.plane
        number = picture.number_at(frame, plane, view.depth_mm)
        key = (name, id(picture.data), frame.key, plane, number, tuple(options.items()))
        return self._cached(key, picture, lambda: picture.cut(frame, plane, number, **options))

    def _cached(self, key: Any, source: Any, compute: Callable[[], T]) -> T:
        """Return the cached value of a key; the source is kept alive with it."""
        if key in self._cache:
            self._cache.move_to_end(key)
            cached: T = self._cache[key][1]
            return cached
        value = compute()
        self._cache[key] = (source, value)
        while len(self._cache) > _MAX_CACHED:
            self._cache.popitem(last=False)
        return value

    def _volume(self, name: str, data: NDArray[Any], grid: Grid) -> OrientedVolume:
        """Return an overlay as a cached picture."""
        picture = self._volumes.get(name)
        if picture is None or picture.source is not data:
            picture = OrientedVolume.of(data, grid)
            self._volumes[name] = picture
        return picture

    # --- overlays -------------------------------------------------------------------------

    def _outlines(self, view: View) -> Outlines:
        analysis, outline = view.board.analysis, view.board.scene.outline
        if not outline.visible:
            return ()
        if analysis is None:
            return self._preliminary(view)
        self._volumes.pop("preliminary", None)
        native = analysis.prepared.native
        components = self._nearest("components", (analysis.findings.components, native), view)
        labels = self._nearest("labels", (analysis.volumes.labels.data, native), view)

        def traced() -> Outlines:
            inside = np.isin(labels.data, [int(label) for label in outline.region.labels])
            ids = np.where(inside, components.data, 0)
            return borders(replace(components, data=ids), outline.colours)

        key = ("outlines", id(components), id(labels), outline.region, outline.colours)
        current = self._cached(key, (components, labels), traced)
        underlying = self._original(view) + self._cavity(view)
        return underlying + current

    def _borders(self, drawn: DrawnOutline | None, view: View) -> Outlines:
        """Return the border of each label being drawn, which changes with its version."""
        if drawn is None:
            return ()
        picture = OrientedVolume.of(drawn.labels, drawn.grid)
        frame, plane = view.board.frame, view.tile.plane
        number = picture.number_at(frame, plane, view.depth_mm)

        def traced() -> Outlines:
            return borders(picture.cut(frame, plane, number, nearest=True), drawn.colours)

        return self._cached((drawn.version, frame.key, plane, number), None, traced)

    def _nearest(self, name: str, source: Source, view: View) -> Slice:
        """Return the slice of labels, voxel by voxel."""
        return self._cut(name, self._volume(name, *source), view, nearest=True)

    def _outlined(
        self,
        name: str,
        source: Source,
        view: View,
        colour: str,
        labels: tuple[int, ...] | None = None,
    ) -> Outlines:
        """Return the outline of labels of a volume, by default of all but 0."""
        part = self._nearest(name, source, view)

        def traced() -> tuple[Line, ...]:
            return lines_around(
                part.data > 0 if labels is None else np.isin(part.data, labels), part
            )

        lines = self._cached((f"{name} lines", id(part), labels), part, traced)
        return ((colour, lines),) if lines else ()

    def _cavity(self, view: View) -> Outlines:
        analysis = view.board.analysis
        cavity = None if analysis is None else analysis.volumes.cavity
        if cavity is None or not view.board.scene.outline.cavity:
            return ()
        return self._outlined("cavity", (cavity.data, cavity.grid), view, Label.CAVITY.colour)

    def _preliminary(self, view: View) -> Outlines:
        preliminary, colours = view.board.preliminary, view.board.scene.outline.colours
        if preliminary is None:
            return ()
        source = (preliminary.components, preliminary.grid)
        components = self._nearest("preliminary", source, view)

        def traced() -> Outlines:
            return borders(components, colours)

        return self._cached(("preliminary", id(components), colours), components, traced)

    def flagged(
        self, board: Board, tile: Tile, viewpoint: Viewpoint, volume: Volume | None
    ) -> Outlines:
        """Return the outlines of candidates of another examination; None for no candidates."""
        if volume is None or not board.scene.outline.visible:
            return ()
        view = View(board, tile, viewpoint)
        return self._outlined("flagged", (volume.data, volume.grid), view, PRIOR_COLOUR)

    def _original(self, view: View) -> Outlines:
        """Return the network's outline of a candidate that a reader changed."""
        analysis, number = view.board.analysis, view.board.scene.outline.original
        if analysis is None or number is None:
            return ()
        source = (analysis.network.findings.components, analysis.prepared.native)
        return self._outlined("original", source, view, ORIGINAL_COLOUR, (number,))

    def _map_layer(self, board: Board) -> MapLayer | None:
        """Return the map; until it is computed, the one before it if any."""
        topmost, overlays = next(iter(board.scene.maps), None), board.overlays
        if topmost is None or topmost.view is not None:
            self._previous_map = topmost
            return topmost
        previous = self._previous_map
        if overlays is None or previous is None or previous.view is None:
            return None
        return previous if overlays.contain(previous.view) else None

    def _map(self, view: View) -> MapDrawing | None:
        board = view.board
        overlays, layer = board.overlays, self._map_layer(board)
        if overlays is None or layer is None or layer.view is None:
            return None
        role, shown = layer.role, layer.view
        part = self._cut(role, self._volume(role, shown.data, overlays.grid), view)
        return MapDrawing(role, part, shown.top, board.scene.choices.opacity, shown.low)


def borders(part: Slice, colours: tuple[tuple[int, str], ...]) -> Outlines:
    """Return the lines around each of some labels that a slice shows, with their colours."""
    present = set(np.unique(part.data).tolist())
    return tuple(
        (colour, lines_around(part.data == label, part))
        for label, colour in colours
        if label in present
    )
