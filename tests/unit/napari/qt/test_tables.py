"""The tables of candidates and of studies."""

import pytest
from qtpy.QtCore import QObject, Qt

from lesionlens.base.labels import ReviewState
from lesionlens.napari.model.screen.screen import ShownCandidate
from lesionlens.napari.qt.candidate_model import CandidateModel
from lesionlens.napari.qt.worklist_model import WorklistModel
from lesionlens.site.database.records import StudyEntry, StudyState, WorklistRow

ALIGNMENT = Qt.ItemDataRole.TextAlignmentRole


def candidates(parent):
    model = CandidateModel(parent)
    state = ReviewState.UNREVIEWED
    model.show((ShownCandidate(1, "left frontal", "8", "1 ml", "0.9", state, False, ""),))
    return model


def studies(parent):
    model = WorklistModel(parent)
    model.show((WorklistRow(StudyEntry("a", "", "P1", "", ()), StudyState.NEW),), None)
    return model


@pytest.mark.parametrize("table", [candidates, studies])
def test_a_heading_is_aligned_like_its_column(table):
    """Those of the list of studies were centred over texts at the left."""
    parent = QObject()
    model = table(parent)
    for column in range(model.columnCount()):
        heading = model.headerData(column, Qt.Orientation.Horizontal, ALIGNMENT)
        assert heading == model.data(model.index(0, column), ALIGNMENT)
