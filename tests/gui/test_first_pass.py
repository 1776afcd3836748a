"""Preliminary candidates: there while the analysis runs, marked as such, replaced by the final."""

from __future__ import annotations

import threading
from functools import partial

import numpy as np
import pytest
from tests.gui.conftest import LEFT
from tests.gui.window import PATIENCE_MS, control, reads, wait

from lesionlens.napari.model.choices.choices import Overlay
from lesionlens.napari.model.choices.views import Layout


@pytest.fixture
def looked(loaded, result, first, qtbot, monkeypatch):
    """A panel whose analysis has told its first pass and waits; and what lets it go on."""
    go_on = threading.Event()

    def lens(study, *, context, first):
        first(looks)
        while not go_on.wait(0.02):
            context.check("network")
        return result

    looks = first
    monkeypatch.setattr(loaded.actions_.loaded_lens, "load", lambda _: lens)
    assert loaded.actions_.analyse()
    qtbot.waitUntil(lambda: loaded.session.state.preliminary is not None, timeout=PATIENCE_MS)
    yield loaded, go_on
    go_on.set()
    wait(qtbot, loaded)


def test_preliminary_candidates_are_listed_gone_to_and_not_decided(looked, qtbot):
    panel, go_on = looked
    (row,) = panel.candidates.model.rows
    assert row.location == "preliminary"
    assert panel.candidates.isVisibleTo(panel)
    assert "preliminary" in reads(panel.candidates)
    assert panel.views.lines.strokes is None  # the reader reads unaided first
    panel.commands.run("next_candidate")
    np.testing.assert_allclose(panel.viewer.dims.point, LEFT, atol=2.1)
    strokes = panel.views.lines.strokes
    box = 4
    assert 0 < len(strokes.pieces) < len(strokes.points) - 2 - box  # dashed
    assert not control(panel, "Accept A").isEnabled()
    panel.commands.run("accept")
    assert not panel.session.state.review.events
    panel.actions_.show_layout(Layout.FOUR)
    view = panel.views.linked.tiles[0]
    drawing = panel.views.linked.drawing(view.tile)
    assert drawing.preliminary
    assert drawing.outlines
    assert drawing.box
    assert "preliminary outlines" in drawing.lines[0]
    go_on.set()
    qtbot.waitUntil(lambda: panel.session.state.analysis is not None, timeout=PATIENCE_MS)
    assert len(panel.candidates.model.rows) == 2
    assert panel.session.state.preliminary is None
    assert panel.session.state.choices.candidate is None
    assert not panel.views.linked.drawing(view.tile).preliminary


def test_a_first_pass_that_is_not_shown_leaves_the_overlay_alone(
    reviewed, result, first, qtbot, monkeypatch, prefer
):
    """While a study was analysed again, the overlay came on over the reader's own read."""
    looks, seen = first, []

    def lens(study, *, context, first):
        first(looks)
        return result

    prefer(overlay=Overlay.MAP)
    monkeypatch.setattr(reviewed.actions_.loaded_lens, "load", lambda _: lens)
    reviewed.session.choose_overlay(Overlay.OFF)
    reviewed.session.changed.connect(lambda _, new: seen.append(new.choices.overlay))
    assert reviewed.actions_.analyse()
    wait(qtbot, reviewed)
    assert set(seen) == {Overlay.OFF, Overlay.MAP}


def test_what_needs_final_candidates_is_disabled_until_then_and_says_why(looked, qtbot):
    panel, go_on = looked
    acts = ("Accept A", "Reject R", "Defer D", "Edit", "Add the", "Draw a", "Merge with")
    buttons = [control(panel, name) for name in acts]
    hints = [button.toolTip() for button in buttons]
    panel.commands.run("next_candidate")
    assert not any(button.isEnabled() for button in buttons)
    assert all("wait for the final" in words for words in hints)
    names = ("accept", "sign", "edit_outline", "draw_lesion", "merge")
    for act in (*(partial(panel.commands.run, name) for name in names), add_left(panel)):
        panel.session.notify("")
        act()
        assert "wait for the final" in panel.session.state.message
        assert panel.session.state.editing is None
    go_on.set()
    qtbot.waitUntil(lambda: panel.session.state.analysis is not None, timeout=PATIENCE_MS)
    assert "Go to a candidate" in control(panel, "Accept A").toolTip()  # none is in focus yet
    panel.commands.run("next_candidate")
    assert all(button.isEnabled() for button in buttons)
    assert "Shift+P" in control(panel, "Add the").toolTip()


def add_left(panel):
    """Ctrl and a click on the lesion at the left."""
    return lambda: panel.actions_.adder.add(LEFT)


def test_a_stopped_analysis_removes_its_first_pass(looked, qtbot):
    """With the contour that came with one of its candidates: the next one begins unaided."""
    panel, _ = looked
    panel.commands.run("next_candidate")
    assert panel.session.state.choices.overlay is Overlay.CONTOUR
    panel.jobs.stop()
    wait(qtbot, panel)
    assert panel.session.state.preliminary is None
    assert panel.session.state.choices.overlay is Overlay.OFF
    assert not panel.candidates.isVisibleTo(panel)


def test_words_of_progress_reach_the_bar_alone_and_few_of_a_thousand_are_reported(
    loaded, qtbot, monkeypatch
):
    drawn, reported = [], []
    show = loaded.candidates.show_screen
    monkeypatch.setattr(
        loaded.candidates, "show_screen", lambda screen: (drawn.append(screen), show(screen))
    )
    loaded.session.changed.connect(lambda _, new: reported.append(new.activity))

    def task(context):
        for n in range(1000):
            context.progress("network", n / 1000)
        context.progress("measurements", 1.0)

    assert loaded.jobs.start("Analysing", task, lambda _: None)
    wait(qtbot, loaded)
    stages = [activity.stage for activity in reported if activity is not None]
    assert stages[-1] == "measurements"
    assert len(stages) < 100
    assert len(drawn) <= 4
    fractions = [activity.fraction for activity in reported if activity is not None]
    assert fractions == sorted(fractions)
