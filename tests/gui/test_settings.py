"""The notice of research use."""

from __future__ import annotations

from qtpy.QtWidgets import (
    QLabel,
    QScrollArea,
)

from lesionlens.base.labels import RESEARCH_USE_NOTICE


def test_the_notice_of_research_use_stays_in_sight(reviewed):
    """It was the last line of the scrolling column, far below a result on most screens."""
    (notice,) = (w for w in reviewed.findChildren(QLabel) if w.text() == RESEARCH_USE_NOTICE)
    assert not any(area.isAncestorOf(notice) for area in reviewed.findChildren(QScrollArea))
    assert notice.isVisibleTo(reviewed)
