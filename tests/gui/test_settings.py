"""The window under other settings of the desktop: small, from right to left, by keyboard alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractButton,
    QApplication,
    QDialog,
    QLabel,
    QMenu,
    QScrollArea,
    QWidget,
)

from lesionlens.base.labels import RESEARCH_USE_NOTICE
from lesionlens.napari.viewer.slice_bar import SliceBar

ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh")


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


def test_the_guide_names_the_tab_stops_of_the_sequences_and_of_analyse(loaded):
    guide = (Path(__file__).parents[2] / "docs" / "how-to" / "napari.md").read_text("utf-8")
    named = re.findall(r"Tab to \*(\w+)\* \((\w+) tab stop", guide)
    assert [name for name, _ in named] == ["T1c", "Analyse"]
    texts = [widget.text().partition(" ")[0] for widget in stops(loaded)]
    first = texts.index("Open…")
    for name, place in named:
        assert texts[first:].index(name) == ORDINALS.index(place)


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


def test_so_do_those_of_dialogs(reviewed, right_to_left):
    """Each is a window of its own, which took the direction of the desktop."""
    reviewed.actions_.dialogs.show_keys()
    reviewed.actions_.dialogs.show_archive()
    reviewed.actions_.dialogs.confirm("Remove it?", "Remove", lambda: None)
    dialogs = {type(dialog).__name__: dialog for dialog in reviewed.findChildren(QDialog)}
    assert {name: dialog.layoutDirection() for name, dialog in dialogs.items()} == dict.fromkeys(
        ("SignDialog", "ReadOwnerDialog", "ResponseDialog", "StudiesDialog", "KeysDialog",
         "PacsDialog", "QMessageBox"), Qt.LayoutDirection.LeftToRight,
    )  # fmt: skip
    for name in ("QMessageBox", "PacsDialog", "KeysDialog"):
        dialogs[name].close()


def test_so_do_those_of_menus(reviewed, right_to_left, listed):
    """They read "…Open a folder"."""
    for widget in (reviewed, reviewed.views.toolbar, listed):
        menus = widget.findChildren(QMenu)
        assert menus
        for menu in menus:
            assert menu.layoutDirection() is Qt.LayoutDirection.LeftToRight, menu.title()


def test_a_hint_in_an_empty_field_can_be_read(reviewed):
    """Half transparent, it had 2.3:1 in the light theme."""
    field = reviewed.candidates.reason.lineEdit()
    field.ensurePolished()
    assert field.palette().placeholderText().color().alpha() == 255
