"""Other series and the subtraction beside the picture, in a real window."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.gui.window import PATIENCE_MS

from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.arrays import Volume
from lesionlens.napari.model.choices.views import ComparisonImages, Layout
from lesionlens.napari.model.screen.slice_annotations import OUTSIDE
from lesionlens.napari.widgets.study_menus import other_menu


@pytest.fixture
def shown(reviewed):
    """The analysed study, with an ADC map that was set aside."""
    session = reviewed.session
    series = session.state.study.series[MrSequence.FLAIR]
    other = replace(series, sequence=None, description="ep2d_ADC")
    object.__setattr__(session.state.study, "set_aside", (other,))
    yield reviewed
    object.__setattr__(session.state.study, "set_aside", ())


def compared(panel):
    return panel.session.state.choices.views.compared


def test_other_series_come_one_after_the_other_and_the_prior_comes_back(shown, qtbot):
    before = ComparisonImages("prior of 2024-03-01", {})
    shown.session.choose_views(compared=before)
    shown.commands.run("next_other")
    qtbot.waitUntil(lambda: compared(shown) is not before, timeout=PATIENCE_MS)
    now = compared(shown)
    assert (now.description, now.registration) == ("ADC (ep2d_ADC)", "placed by its header")
    assert shown.session.state.choices.views.layout is Layout.PRIOR
    assert np.ptp(now.volumes[MrSequence.T1C].data) > 0
    shown.commands.run("next_other")
    assert compared(shown) is before


def test_another_series_is_chosen_in_its_menu(shown, qtbot):
    (adc,) = shown.session.state.study.set_aside
    object.__setattr__(shown.session.state.study, "set_aside", (replace(adc, description="A&B"),))
    menu = other_menu(shown, shown.actions_)
    for _ in range(2):  # it is filled anew whenever it is shown
        menu.aboutToShow.emit()
    texts = [action.text() for action in menu.actions()]
    assert len(texts) == 2
    assert texts[0].startswith("T1c - T1")
    assert texts[1].endswith(": A&&B")
    menu.actions()[1].trigger()
    qtbot.waitUntil(lambda: compared(shown) is not None, timeout=PATIENCE_MS)
    assert compared(shown).description == "A&B"
    menu.actions()[1].trigger()
    assert compared(shown) is None
    menu.deleteLater()


def test_what_cannot_be_shown_beside_says_why(reviewed):
    reviewed.commands.run("next_other")
    assert "no other series" in reviewed.session.state.message
    study = reviewed.session.state.study
    reviewed.session.close()
    reviewed.session.open(study)
    reviewed.commands.run("show_subtraction")
    assert "Analyse the study first" in reviewed.session.state.message


def test_the_subtraction_comes_and_goes_and_the_views_are_as_before(shown, qtbot):
    shown.actions_.show_layout(Layout.PLANES)
    shown.commands.run("show_subtraction")
    qtbot.waitUntil(lambda: compared(shown) is not None, timeout=PATIENCE_MS)
    assert compared(shown).description == "T1c - T1"
    button = shown.views.toolbar.layouts[Layout.PRIOR]
    assert button.text() == "beside", "nothing of an earlier examination is shown"
    shown.viewer.dims.ndisplay = 3
    shown.commands.run("show_subtraction")  # it was closed unseen
    assert shown.viewer.dims.ndisplay == 2
    assert compared(shown) is not None
    shown.commands.run("show_subtraction")
    assert compared(shown) is None
    assert shown.session.state.choices.views.layout is Layout.PLANES


def test_the_subtraction_names_the_slices_that_it_was_computed_from(shown, qtbot, monkeypatch):
    """It named slices of the grid that T1 and T1c were resampled to, as if acquired so."""
    study = shown.session.state.study
    t1c = study.series[MrSequence.T1C]
    edges = np.divide((1.0, 1.0, 5.0), t1c.grid.spacing_mm)
    thick = replace(t1c.grid, affine=t1c.grid.affine @ np.diag([*edges, 1.0]))
    monkeypatch.setitem(study.series, MrSequence.T1C, replace(t1c, grid=thick))
    shown.commands.run("show_subtraction")
    qtbot.waitUntil(lambda: compared(shown) is not None, timeout=PATIENCE_MS)
    assert set(compared(shown).resampled.values()) == {"interpolated from 5 mm slices"}


@pytest.fixture
def doubled(reviewed):
    """The views of an ADC map that has twice the values of T1c, and of T1c beside it."""
    session = reviewed.session
    series = session.state.study.series[MrSequence.T1C]
    data = 2 * np.asarray(series.load(), np.float32)
    adc = dict.fromkeys(session.state.study.series, Volume(data, series.grid))
    views = {
        "compared": ComparisonImages("ADC (ep2d of Doe)", adc, other_image="0 adc"),
        "layout": Layout.PRIOR,
    }
    session.choose_views(**views)
    reviewed.session.step(1)
    linked = reviewed.views.linked
    return reviewed, linked, *(view.tile for view in linked.tiles)


def number(words):
    return float(words.split()[0])


def test_the_value_under_the_pointer_is_that_of_the_image_shown_there(doubled):
    _, linked, adc, t1c = doubled
    for at in ((10.0, 5.0), (-14.0, 3.0)):
        linked.hovered(adc, at)
        there = linked.footer(adc)
        linked.hovered(t1c, at)
        assert number(there) == pytest.approx(2 * number(linked.footer(t1c)), rel=1e-3)


def test_a_drag_of_the_brightness_is_of_the_image_under_the_pointer(doubled):
    _, linked, adc, t1c = doubled
    before = linked.limits(adc), linked.limits(t1c)
    linked.dragged(adc, (40.0, 0.0), window=True)
    assert linked.limits(adc)[1] > before[0][1]
    assert linked.limits(t1c) == before[1]


def test_the_window_of_a_ct_is_its_own_from_the_start(doubled):
    panel, linked, adc, t1c = doubled
    before = linked.limits(t1c)
    shown = panel.session.state.choices.views.compared
    panel.session.choose_views(compared=replace(shown, window=(0.0, 80.0)))
    assert linked.limits(adc) == (0.0, 80.0)
    assert linked.limits(t1c) == before


def test_a_sequence_that_was_moved_names_the_slices_that_it_was_acquired_in(doubled, monkeypatch):
    panel, linked, _, t1c = doubled
    overlays, study = panel.session.state.overlays, linked.board.analysis.study
    series = study.series[MrSequence.T1C]
    thick = Grid(series.grid.shape, series.grid.affine @ np.diag([1.0, 1.0, 4.0, 1.0]))
    monkeypatch.setitem(study.series, MrSequence.T1C, replace(series, grid=thick))
    panel.session.evidence_arrived(replace(overlays, registered=frozenset({MrSequence.T1C})))
    found = f"interpolated from {thick.spacing_mm.max():.3g} mm slices"
    assert found in linked.drawing(t1c).lines


def test_only_images_of_the_study_have_slice_numbers(doubled):
    """Those of the grid that another image was resampled to are numbers of no series."""
    panel, linked, adc, t1c = doubled
    assert not any(line.startswith("slice ") for line in linked.drawing(adc).lines)
    assert linked.drawing(t1c).lines[1].startswith("slice ")
    other = panel.session.state.choices.views.compared
    edge = {
        sequence: Volume(volume.data[..., :2], Grid((*volume.grid.shape[:2], 2), volume.affine))
        for sequence, volume in other.volumes.items()
    }
    panel.session.choose_views(compared=replace(other, volumes=edge))
    assert linked.drawing(adc).lines == ("ADC (ep2d of Doe) · axial", OUTSIDE)


def test_the_brush_draws_on_no_other_image(shown, qtbot):
    """Its ring was there, and a stroke moved the crosshair."""
    before = compared(shown)
    shown.commands.run("next_other")
    qtbot.waitUntil(lambda: compared(shown) is not before, timeout=PATIENCE_MS)
    shown.session.go_to_candidate(1)
    shown.session.begin_edit()
    linked = shown.views.linked
    other, own = (view.tile for view in linked.tiles)
    viewpoint = shown.actions_.viewpoint.current
    position = tuple(linked.board.frame.on_screen(other.plane, viewpoint.point_mm) + 4.0)
    assert linked.brush_mm(other) is None
    assert linked.brush_mm(own) is not None
    linked.pressed(other, position)
    linked.released()
    assert "sequences of the study" in shown.session.state.message
    assert shown.actions_.viewpoint.current == viewpoint
    assert not shown.actions_.editor.drawn().are_changed
    linked.pressed(own, position)
    linked.released()
    assert shown.actions_.viewpoint.current == viewpoint
    shown.session.end_edit()
