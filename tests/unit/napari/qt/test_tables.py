"""The tables of candidates and of studies."""

from dataclasses import replace
from unittest.mock import Mock

from qtpy.QtCore import QObject, Qt
from qtpy.QtWidgets import QMenu

from lesionlens.base.labels import MrSequence, ReviewState
from lesionlens.napari.model.screen.panel_blocks import ShownSequence
from lesionlens.napari.model.screen.screen import Screen, ShownCandidate
from lesionlens.napari.qt.candidate_model import CandidateModel
from lesionlens.napari.qt.worklist_model import WorklistModel
from lesionlens.napari.widgets.parts import ElidedLabel
from lesionlens.napari.widgets.study_block import StudyBlock
from lesionlens.site.database.records import StudyEntry, StudyState, WorklistRow

ALIGNMENT = Qt.ItemDataRole.TextAlignmentRole


def candidates(parent):
    model = CandidateModel(parent)
    state = ReviewState.UNREVIEWED
    model.replace((ShownCandidate(1, "left frontal", "8", "1 ml", "0.9", state, False, ""),))
    return model


def studies(parent):
    model = WorklistModel(parent)
    model.show((WorklistRow(StudyEntry("a", "", "P1", "", ()), StudyState.NEW),), None)
    return model


MARKUP = "T1 <img src=/dev/zero> post"
SHOWN = '<span style="white-space: pre-wrap">T1 &lt;img src=/dev/zero&gt; post</span>'


def test_names_of_files_are_no_markup_in_a_tooltip():
    """Pointing at a study whose name held an image made Qt open that file: the window froze."""
    parent = QObject()
    model, tip = WorklistModel(parent), Qt.ItemDataRole.ToolTipRole
    entry = StudyEntry("a", "", MARKUP, "", (), warnings=(MARKUP,))
    model.show((WorklistRow(entry, StudyState.NEW),), None)
    assert [model.data(model.index(0, column), tip) for column in (0, 1, 8)] == [SHOWN, "", SHOWN]
    found = CandidateModel(parent)
    state = ReviewState.UNREVIEWED
    found.replace((ShownCandidate(1, "left frontal", "8", "1 ml", "0.9", state, False, MARKUP),))
    assert found.data(found.index(0, 1), tip) == SHOWN


def test_descriptions_are_no_markup_in_the_tooltips_of_the_panel(qtbot):
    """A series description with an image froze the window, too."""
    block, title = StudyBlock(QMenu(), Mock()), ElidedLabel()
    for widget in (block, title):
        qtbot.addWidget(widget)
    title.resize(30, 20)
    title.show_text(MARKUP)
    assert title.toolTip() == SHOWN
    shown = ShownSequence(MrSequence.T1, True, True, MARKUP)
    screen = Screen(study=replace(Screen().study, sequences=(shown,)))
    block.show_screen(screen, None)
    (chip,) = (button for button in block.stops() if button.text() == "T1 ✓")
    assert chip.toolTip() == SHOWN
