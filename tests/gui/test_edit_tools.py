"""The range of the brush, as it is typed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from qtpy.QtCore import QLocale
from qtpy.QtTest import QTest

from lesionlens.napari.model.choices.tools import Limit


@pytest.fixture(params=["C", "de_DE"])
def drawing(request, reviewed):
    """The panel while an outline is drawn, under a desktop of a locale."""
    reviewed.setLocale(QLocale(request.param))
    reviewed.session.step(1)
    reviewed.commands.run("edit_outline")
    yield reviewed
    reviewed.commands.run("discard_edit")


def entered(panel, words):
    box = panel.candidates.tools.high
    box.lineEdit().selectAll()
    QTest.keyClicks(box.lineEdit(), words)
    box.interpretText()
    return panel.session.state.tools.high


@pytest.mark.parametrize("words", ["0.5", "0,5"])
def test_a_range_is_typed_with_a_point_or_a_comma(drawing, words):
    """Under a German desktop 0.5 became 5 for an intensity, and 0 for a probability."""
    for limit in (Limit.PROBABILITY, Limit.INTENSITY):
        drawing.session.choose_limit(limit)
        drawing.session.choose_range(0.0, 1.0)
        assert entered(drawing, words) == 0.5


def test_intensities_of_a_normalised_image_have_decimals_enough(drawing):
    drawing.session.choose_limit(Limit.INTENSITY)
    tools = drawing.session.state.tools
    drawing.session.choose_tools(low=0.213, high=0.487)
    assert entered(drawing, "0.612") == 0.612
    assert drawing.session.state.tools == replace(tools, low=0.213, high=0.612)
