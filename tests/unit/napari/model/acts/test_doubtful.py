"""Doubtful parts in the window: gone to one by one, dotted on the outline, left out as an edit."""

from dataclasses import replace

import numpy as np
import pytest
from tests.helpers.analysed_head import FakeResult

from lesionlens.analysis.findings.additions import without_doubtful
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.findings import DoubtfulPart
from lesionlens.napari.model.acts.session import ReviewSession
from lesionlens.napari.model.acts.views import ViewActs
from lesionlens.napari.model.choices.choices import Overlay
from lesionlens.napari.model.overlays.maps import overlays_of


@pytest.fixture
def doubted(analysis):
    """The head with a doubtful half of each candidate."""
    numbers, parts = np.zeros(analysis.findings.components.shape, np.uint16), []
    grid = analysis.volumes.labels.grid
    for one in analysis.findings.candidates:
        places = np.argwhere(analysis.findings.components == one.id)
        half = places[: len(places) // 2]
        numbers[tuple(half.T)] = one.id
        middle = tuple(float(v) for v in grid.to_mm(half.mean(axis=0)))
        ml = len(half) * grid.voxel_ml
        parts.append(DoubtfulPart(one.id, one.id, ml, middle, 0.6, (MrSequence.FLAIR,), ()))
    return replace(
        analysis,
        volumes=replace(analysis.volumes, doubtful=Volume(numbers, grid)),
        findings=replace(analysis.findings, doubtful=tuple(parts)),
    )


@pytest.fixture
def acts(doubted):
    session = ReviewSession()
    session.open(doubted.study)
    session.analysed(FakeResult(doubted), overlays_of(doubted))
    return ViewActs(session)


def test_the_next_and_the_previous_part_come_into_view_with_their_reason(acts, doubted):
    first, second = doubted.findings.doubtful
    acts.step_doubtful(1)
    assert acts.viewpoint.current.point_mm == first.centroid_mm
    assert acts.doubtful_here() == first
    assert acts.session.state.choices.candidate == first.candidate
    assert "Doubtful part 1 (1 of 2)" in acts.session.state.message
    assert "FLAIR alone shows it" in acts.session.state.message
    acts.step_doubtful(1)
    assert acts.doubtful_here() == second
    acts.step_doubtful(1)
    assert acts.doubtful_here() == first
    acts.step_doubtful(-1)
    assert acts.doubtful_here() == second
    acts.go_to_point((0.0, 0.0, 0.0))
    assert acts.doubtful_here() is None
    assert acts.session.state.message == "", "what was said of the part goes with it"
    acts.step_doubtful(-1)
    assert acts.doubtful_here() == second


def test_a_part_keeps_its_number_of_findings_json_after_another_was_left_out(doubted):
    """It was announced as "1 of 1", while findings.json calls it number 2."""
    remaining = replace(doubted, findings=replace(
        doubted.findings, doubtful=doubted.findings.doubtful[1:]))  # fmt: skip
    session = ReviewSession()
    session.open(remaining.study)
    session.analysed(FakeResult(remaining), overlays_of(remaining))
    ViewActs(session).step_doubtful(1)
    assert "Doubtful part 2 (1 of 1)" in session.state.message


def test_a_map_that_is_shown_stays_where_a_part_is_visited(acts):
    acts.step_doubtful(1)
    assert acts.session.state.choices.overlay is Overlay.CONTOUR
    acts.session.choose_overlay(Overlay.MAP)
    acts.step_doubtful(1)
    assert acts.session.state.choices.overlay is Overlay.MAP


def test_without_one_the_reader_is_told(analysis):
    session = ReviewSession()
    acts = ViewActs(session)
    session.open(analysis.study)
    for act in (lambda: acts.step_doubtful(1), acts.next_considered):
        act()
        assert session.state.message == "Analyse the study first.", "there may still be some"
        session.notify("")
    for doubtful, told in (
        ((), "No part of an outline is doubtful."),
        (None, "This result was not searched for doubtful parts of outlines."),
    ):
        shown = replace(analysis, findings=replace(analysis.findings, doubtful=doubtful))
        session.analysed(FakeResult(shown), overlays_of(shown))
        acts.step_doubtful(1)
        assert session.state.message == told


def test_what_is_left_out_is_the_part_and_nothing_else(doubted):
    part = doubted.findings.doubtful[0]
    outline = without_doubtful(doubted, part)
    left = np.zeros(doubted.findings.components.shape, bool)
    left[outline.box] = outline.labels > 0
    mine = doubted.findings.components == part.candidate
    np.testing.assert_array_equal(left, mine & (doubted.volumes.doubtful.data != part.number))
    both = doubted.volumes.doubtful.data.copy()
    both[mine & (both == 0)] = 9  # another part of the same candidate
    numbers = Volume(both, doubted.volumes.labels.grid)
    again = without_doubtful(
        replace(doubted, volumes=replace(doubted.volumes, doubtful=numbers)), part
    )
    np.testing.assert_array_equal(again.labels, outline.labels)
    everything = np.full(left.shape, part.number, np.uint16)
    whole = Volume(everything, doubted.volumes.labels.grid)
    all_of_it = replace(doubted, volumes=replace(doubted.volumes, doubtful=whole))
    assert without_doubtful(all_of_it, part).is_empty


def test_a_part_whose_voxels_are_missing_is_not_called_removed(doubted):
    """A decision was recorded that left it out, with the whole outline."""
    incomplete = replace(doubted, volumes=replace(doubted.volumes, doubtful=None))
    with pytest.raises(UnusableInputError, match=r"doubtful\.nii\.gz"):
        without_doubtful(incomplete, doubted.findings.doubtful[0])
