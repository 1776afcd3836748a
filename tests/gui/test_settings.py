"""The window under other settings of the desktop: small, from right to left, by keyboard alone."""

from __future__ import annotations

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QApplication,
    QLabel,
    QScrollArea,
    QWidget,
)

from lesionlens.base.labels import RESEARCH_USE_NOTICE
from lesionlens.napari.viewer.slice_bar import SliceBar
from lesionlens.napari.widgets.keys_dialog import KeysDialog


def test_the_notice_of_research_use_stays_in_sight(reviewed):
    """It was the last line of the scrolling column, far below a result on most screens."""
    (notice,) = (w for w in reviewed.findChildren(QLabel) if w.text() == RESEARCH_USE_NOTICE)
    assert not any(area.isAncestorOf(notice) for area in reviewed.findChildren(QScrollArea))
    assert notice.isVisibleTo(reviewed)


def stops(panel):
    """The buttons of a panel at which Tab stops, in its order."""
    found, widget = [], panel.nextInFocusChain()
    while widget is not panel:
        is_stop = widget.focusPolicy() & Qt.FocusPolicy.TabFocus and widget.isEnabled()
        is_ours = panel.isAncestorOf(widget) and isinstance(widget, QAbstractButton)
        if is_stop and is_ours and widget.isVisibleTo(panel):
            found.append(widget)
        widget = widget.nextInFocusChain()
    return found


def test_tab_goes_from_the_top_of_the_panel_to_its_bottom(reviewed):
    """The heading of the study came after *Analyse again*, with all of its section before it."""
    found = stops(reviewed)
    first = found.index(reviewed.study.heading)
    assert [widget.text() for widget in (*found[first:], *found[:first])] == [
        "STUDY", "Open…", "T1c ✓", "change…",
        "QUALITY", "Preparation: automatic", "Analyse again",
        "CANDIDATES", "+ add ⇧P", "draw ⇧L", "cavity",
        "ATTENTION", "off", "uncertainty",
        "Keys (K)", "Nothing further ⇧A", "Export…",
    ]  # fmt: skip


@pytest.fixture
def right_to_left():
    """The direction of an Arabic or Hebrew desktop."""
    app = QApplication.instance()
    app.setLayoutDirection(Qt.LayoutDirection.RightToLeft)
    yield
    app.setLayoutDirection(Qt.LayoutDirection.LeftToRight)


def test_english_texts_and_figures_stay_from_left_to_right(reviewed, right_to_left):
    """The sizes read ".enh 22 × 25", the layout 1 × 2 "2 × 1", and T1c stood at the left of T1."""
    reviewed.commands.run("layout_four")
    window = reviewed.window()
    (bar,) = window.findChildren(SliceBar)
    toolbar = reviewed.views.toolbar
    for widget in (reviewed, *reviewed.findChildren(QWidget), bar.slider, toolbar):
        if widget.window() is window:
            assert widget.layoutDirection() is Qt.LayoutDirection.LeftToRight
    tiles = reviewed.views.linked.tiles
    assert {tile.layoutDirection() for tile in tiles} == {Qt.LayoutDirection.LeftToRight}


def test_dialogs_stay_from_left_to_right(right_to_left, panel):
    """The columns of the archive's table began at the right, and its texts ended with "(1"."""
    panel.show_archive()
    dialogs = (panel.archive, panel.signing, panel.read_owner, panel.response, panel.studies)
    for dialog in (*dialogs, KeysDialog(panel)):
        for widget in (dialog, *dialog.findChildren(QAbstractItemView)):
            assert widget.layoutDirection() is Qt.LayoutDirection.LeftToRight


def test_a_hint_in_an_empty_field_can_be_read(reviewed):
    """Half transparent, it had 2.3:1 in the light theme."""
    field = reviewed.candidates.reason.lineEdit()
    field.ensurePolished()
    assert field.palette().placeholderText().color().alpha() == 255
