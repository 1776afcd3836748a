"""The notice of research use, and the order of the tab stops."""

from __future__ import annotations

import re
from pathlib import Path

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractButton,
    QLabel,
    QScrollArea,
)

from lesionlens.base.labels import RESEARCH_USE_NOTICE

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
