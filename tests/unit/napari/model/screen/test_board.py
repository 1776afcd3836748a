"""Which views a layout has, where they are, and along which axes they are cut."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import Series, Study, StudyKind
from lesionlens.napari.model.choices.choices import Choices
from lesionlens.napari.model.choices.views import ComparisonImages, Layout, ViewChoices
from lesionlens.napari.model.geometry.planes import Plane
from lesionlens.napari.model.screen.board import (
    Tile,
    frame_of,
    kind_of,
    opening,
    shown_grid,
    tiles_of,
)
from lesionlens.napari.model.state.state import State, shown_sequence

T1, T1C, T2, FLAIR = MrSequence.T1, MrSequence.T1C, MrSequence.T2, MrSequence.FLAIR
STRAIGHT = Grid((90, 90, 90), np.eye(4))
CORONAL = Grid((90, 20, 90), np.diag([1.0, 5.0, 1.0, 1.0]))
TURN = np.eye(4)
TURN[:3, :3] = Rotation.from_euler("x", 20, degrees=True).as_matrix()
OBLIQUE = Grid((90, 90, 20), TURN @ np.diag([1.0, 1.0, 5.0, 1.0]))


def state_of(*sequences, shown=None, grid=STRAIGHT, **views):
    series = {s: Series(s, f"{s} series", 1.0, grid, (), lambda: None) for s in sequences}
    study = Study("a", StudyKind.NIFTI, series, Path())
    choices = Choices(sequence=shown or sequences[0], views=ViewChoices(**views))
    return State(study=study, choices=choices)


def places(state, layout):
    return [(t.sequence, t.row, t.column) for t in tiles_of(state, layout)]


@pytest.mark.parametrize(
    ("layout", "shown", "expected"),
    [
        (Layout.SINGLE, T1, []),
        (Layout.ONE, T2, [(T2, 0, 0)]),
        (Layout.PAIR, T1C, [(T1C, 0, 0), (T2, 0, 1)]),
        (Layout.PAIR, FLAIR, [(FLAIR, 0, 0), (T1, 0, 1)]),
        (Layout.TRIPLE, T2, [(T2, 0, 0), (FLAIR, 0, 1), (T1, 0, 2)]),
        (Layout.FOUR, T2, [(T1, 0, 0), (T1C, 0, 1), (T2, 1, 0), (FLAIR, 1, 1)]),
    ],
)
def test_views_start_at_the_shown_sequence_unless_all_are_there(layout, shown, expected):
    assert places(state_of(T1, T1C, T2, FLAIR, shown=shown), layout) == expected


def test_three_planes_show_one_sequence_the_first_of_them_twice_as_high():
    first, *others = Plane
    assert tiles_of(state_of(T1, T2, shown=T2), Layout.PLANES) == (
        Tile(T2, first, 0, 0, 2),
        Tile(T2, others[0], 0, 1),
        Tile(T2, others[1], 1, 1),
    )


def test_an_earlier_examination_is_left_of_this_one_if_it_has_the_sequence():
    compared = ComparisonImages("prior", {T1: None})
    state = state_of(T1, T2, compared=compared)
    plane = state.choices.plane
    assert tiles_of(state, Layout.PRIOR) == (Tile(T1, plane, prior=True), Tile(T1, plane, 0, 1))
    assert tiles_of(state_of(T1, T2, shown=T2, compared=compared), Layout.PRIOR) == ()
    assert tiles_of(state_of(T1, T2), Layout.PRIOR) == ()


def test_planes_follow_oblique_slices_in_linked_views_if_they_are_to():
    assert frame_of(state_of(T1, grid=OBLIQUE, layout=Layout.ONE)).tilted
    assert not frame_of(state_of(T1, grid=OBLIQUE, layout=Layout.SINGLE)).tilted
    assert not frame_of(state_of(T1, grid=OBLIQUE, layout=Layout.ONE, acquired=False)).tilted
    assert not frame_of(State(choices=Choices(views=ViewChoices(layout=Layout.ONE)))).tilted


def test_a_registered_sequence_follows_the_slices_of_the_reference():
    """It was resampled to the working grid, which is the patient's."""
    state = state_of(T1, T2, grid=OBLIQUE, layout=Layout.ONE)
    overlays = SimpleNamespace(registered={T1}, grid=STRAIGHT)
    assert shown_grid(replace(state, overlays=overlays)) is STRAIGHT
    assert not frame_of(replace(state, overlays=overlays)).tilted
    analysis = SimpleNamespace(prepared=SimpleNamespace(native=OBLIQUE))
    analysed = replace(state, overlays=overlays, analysis=analysis)
    assert frame_of(analysed).tilted
    other = replace(analysed, choices=replace(state.choices, sequence=T2))
    assert shown_grid(other) is OBLIQUE
    series = {**state.study.series, T2: replace(state.study.series[T2], grid=CORONAL)}
    unregistered = replace(other, study=replace(state.study, series=series))
    assert not frame_of(unregistered).tilted
    for sequence in (FLAIR, None):
        absent = replace(analysed, choices=replace(state.choices, sequence=sequence))
        assert shown_grid(absent) is None


def test_while_the_key_is_held_views_start_at_the_other_sequence():
    held = state_of(T1, T1C, swapped=True)
    assert [t.sequence for t in tiles_of(held, Layout.ONE)] == [shown_sequence(held)] == [T1C]


def test_a_study_opens_in_its_plane_of_acquisition_oblique_slices_in_linked_views():
    defaults = Choices(plane=Plane.SAGITTAL, views=ViewChoices(layout=Layout.FOUR))
    found = [
        opening(state_of(T1, grid=grid).study, T1, defaults)
        for grid in (STRAIGHT, CORONAL, OBLIQUE)
    ]
    assert [c.plane for c in found] == [Plane.SAGITTAL, Plane.CORONAL, Plane.AXIAL]
    assert [c.views.layout for c in found] == [Layout.FOUR, Layout.FOUR, Layout.ONE]
    assert opening(Study("a", StudyKind.NIFTI, {}, Path()), None, defaults).sequence is None


def test_layouts_are_remembered_by_sequences_planes_and_tilt():
    study = state_of(T1, T2, FLAIR).study
    grids = dict(zip(study.series, (STRAIGHT, CORONAL, OBLIQUE), strict=True))
    series = {s: replace(one, grid=grids[s]) for s, one in study.series.items()}
    assert kind_of(replace(study, series=series)) == (
        "nifti; t1 3D, t2 coronal, flair axial oblique"
    )
