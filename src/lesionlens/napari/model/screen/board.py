"""From the state to the board of views: pure, frozen, no Qt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.findings import Point, PreliminaryFindings
from lesionlens.base.records.study import Study
from lesionlens.napari.model.choices.choices import Choices
from lesionlens.napari.model.choices.views import Layout, ViewChoices
from lesionlens.napari.model.geometry.planes import Plane
from lesionlens.napari.model.geometry.slices import (
    Frame,
    OrientedVolume,
    Slices,
    plane_of_acquisition,
    plane_to_open,
)
from lesionlens.napari.model.overlays.maps import Overlays
from lesionlens.napari.model.screen.screen import ShownScene
from lesionlens.napari.model.state.state import State, shown_sequence


@dataclass(frozen=True, slots=True)
class Tile:
    """One view of a board: content and position."""

    sequence: MrSequence
    plane: Plane
    row: int = 0
    column: int = 0
    rows: int = 1
    prior: bool = False
    """Whether it shows the comparison instead of this study."""


@dataclass(frozen=True, slots=True, eq=False)
class Board:
    """The views of a window, and their common content."""

    tiles: tuple[Tile, ...] = ()
    """Views; empty if napari's canvas is shown."""
    frame: Frame = field(default_factory=Frame.patient)
    """Axes of the planes."""
    scene: ShownScene = field(default_factory=ShownScene)
    """Outline, box and map, as in the single view."""
    views: ViewChoices = field(default_factory=ViewChoices)
    opened: bool = False
    grid: Grid | None = None
    """Grid of the shown sequence; None without a study."""
    series: Mapping[MrSequence, str] = field(default_factory=dict)
    """Description of each present series."""
    corner: tuple[str, ...] = ()
    """Lines of the patient's identity."""
    editing: bool = False
    analysis: Analysis | None = None
    """Analysis with the outlined candidates."""
    preliminary: PreliminaryFindings | None = None
    """Preliminary candidates, outlined until there is an analysis."""
    overlays: Overlays | None = None
    marks: tuple[Point, ...] = ()
    """The reader's marks, RAS+ mm."""

    def slices(self, plane: Plane) -> Slices | None:
        """Return the slices of the shown sequence in a plane; None without a study."""
        return slices_of(self.grid, self.frame, plane)

    def acquired_slices(self, plane: Plane) -> Slices | None:
        """Return the acquired slices that a plane follows: of the shown sequence or the reference.

        None if the plane is oblique to both.
        """
        native = None if self.analysis is None else self.analysis.prepared.native
        found = (slices_of(grid, self.frame, plane) for grid in (self.grid, native))
        return next((s for s in found if s is not None and not s.interpolated), None)


def board_of(state: State, scene: ShownScene) -> Board:
    """Return the board of a state."""
    series = {} if state.study is None else state.study.series
    return Board(
        tiles=tiles_of(state, state.choices.views.layout),
        frame=frame_of(state),
        scene=scene,
        views=state.choices.views,
        opened=state.study is not None,
        grid=shown_grid(state),
        series={sequence: scan.description for sequence, scan in series.items()},
        corner=state.identity.corner,
        editing=state.editing is not None,
        analysis=state.analysis,
        preliminary=state.preliminary,
        overlays=state.overlays,
        marks=state.marks,
    )


def tiles_of(state: State, layout: Layout) -> tuple[Tile, ...]:
    """Return the views of a layout, without those that lack a sequence."""
    study, choices = state.study, state.choices
    if study is None or choices.sequence is None or layout is Layout.SINGLE:
        return ()
    first = shown_sequence(state) or choices.sequence
    if layout is Layout.PLANES:
        positions = ((0, 0, 2), (0, 1, 1), (1, 1, 1))
        return tuple(
            Tile(first, plane, row, column, rows)
            for plane, (row, column, rows) in zip(Plane, positions, strict=True)
        )
    if layout is Layout.PRIOR:
        compared = choices.views.compared
        if compared is None or first not in compared.volumes:
            return ()
        return (Tile(first, choices.plane, prior=True), Tile(first, choices.plane, 0, 1))
    available = tuple(study.series)
    start = available.index(choices.sequence)
    count = layout.sequences
    selected = (
        (available[start:] + available[:start])[:count] if count < len(available) else available
    )
    if count == 1:
        selected = (first,)
    columns = 2 if len(selected) == Layout.FOUR.sequences else len(selected)
    return tuple(
        Tile(sequence, choices.plane, number // columns, number % columns)
        for number, sequence in enumerate(selected)
    )


def shown_grid(state: State) -> Grid | None:
    """Return the grid of the shown sequence: its own, or the working grid if registered."""
    study, sequence = state.study, state.choices.sequence
    if study is None or sequence is None or sequence not in study.series:
        return None
    overlays = state.overlays
    if overlays is not None and sequence in overlays.registered:
        return overlays.grid
    return study.series[sequence].grid


def frame_of(state: State) -> Frame:
    """Return the axes of the planes: the acquisition's or the patient's.

    napari's canvas supports the patient's axes only.
    """
    grid, views = shown_grid(state), state.choices.views
    if grid is None or views.layout is Layout.SINGLE or not views.acquired:
        return Frame.patient()
    if state.analysis is not None and state.overlays is not None and grid is state.overlays.grid:
        grid = state.analysis.prepared.native  # it was registered to the reference
    return Frame.acquired(grid)


def opening(study: Study, first: MrSequence | None, defaults: Choices) -> Choices:
    """Return the initial choices for a study: its plane of acquisition.

    Oblique slices are shown as acquired in linked views, as napari's canvas cannot show them.
    """
    if first is None:
        return replace(defaults, sequence=None)
    grid = study.series[first].grid
    oblique = Frame.acquired(grid).tilted
    layout = Layout.ONE if oblique else defaults.views.layout
    return replace(
        defaults,
        sequence=first,
        plane=plane_to_open(grid) or defaults.plane,
        views=replace(defaults.views, layout=layout),
    )


def kind_of(study: Study) -> str:
    """Return the kind of a study, as the key of remembered layouts.

    Examples
    --------
    >>> from pathlib import Path
    >>> from lesionlens.base.records.study import StudyKind
    >>> kind_of(Study("a", StudyKind.NIFTI, {}, Path()))
    'nifti; no sequence'
    """
    parts = []
    for sequence, series in study.series.items():
        plane = plane_of_acquisition(series.grid)
        tilted = " oblique" if Frame.acquired(series.grid).tilted else ""
        parts.append(f"{sequence.value} {'3D' if plane is None else plane.value}{tilted}")
    return f"{study.kind.value}; {', '.join(parts) or 'no sequence'}"


def slices_of(grid: Grid | None, frame: Frame, plane: Plane) -> Slices | None:
    """Return the slices of a grid in a plane of a frame; None without a grid."""
    if grid is None:
        return None
    picture = OrientedVolume.of(np.broadcast_to(np.uint8(0), grid.shape), grid)
    return Slices.of(picture, frame, plane)
