"""The range of the brush, as it is typed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from qtpy.QtCore import QLocale, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication
from tests.gui.window import PATIENCE_MS
from tests.helpers.analysed_head import FakeResult

from lesionlens.napari.model.choices.tools import Limit
from lesionlens.napari.model.overlays.maps import overlays_of
from lesionlens.napari.qt.keyboard import takes_text


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


@pytest.mark.parametrize("name", ["low", "high"])
def test_enter_in_a_number_of_the_range_enters_it_and_leaves_the_field(drawing, name, qtbot):
    """The keys that came next did nothing, without a word."""
    drawing.session.choose_limit(Limit.PROBABILITY)
    drawing.session.choose_range(0.0, 1.0)
    field = getattr(drawing.candidates.tools, name)
    drawing.window().show()
    drawing.window().activateWindow()
    qtbot.waitUntil(field.isVisible, timeout=PATIENCE_MS)
    field.setFocus()
    qtbot.waitUntil(field.hasFocus, timeout=PATIENCE_MS)
    field.selectAll()
    qtbot.keyClicks(field, "0.5")
    qtbot.keyClick(field, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: not field.hasFocus(), timeout=PATIENCE_MS)
    assert getattr(drawing.session.state.tools, name) == 0.5
    assert drawing.session.state.editing == 1, "the outline is still drawn"
    assert not takes_text(QApplication.focusWidget())
    qtbot.keyClick(QApplication.focusWidget(), Qt.Key.Key_T, Qt.KeyboardModifier.ShiftModifier)
    assert drawing.session.state.tools.ball


def test_a_result_without_probabilities_limits_the_brush_by_intensities_alone(reviewed, analysis):
    """The key never came back to *anywhere*, and the list showed a limit that was refused."""
    masked = replace(analysis, volumes=replace(analysis.volumes, probability={}))
    reviewed.actions_.show_result(FakeResult(masked), overlays_of(masked))
    reviewed.session.step(1)
    reviewed.commands.run("edit_outline")
    for limit in (Limit.INTENSITY, Limit.ANYWHERE, Limit.INTENSITY):
        reviewed.commands.run("brush_limit")
        assert reviewed.session.state.tools.limit is limit
    chooser = reviewed.candidates.tools.limit
    shown = chooser.currentText()
    number = chooser.findData(Limit.PROBABILITY)
    for _ in range(2):  # the second time its message is there already
        chooser.setCurrentIndex(number)
        chooser.activated.emit(number)
        assert reviewed.session.state.message.startswith("This result contains no probabilities")
        assert chooser.currentText() == shown
    reviewed.commands.run("discard_edit")
