"""Without T1c nothing in the window is enhancing: no outline, no label, no colour, no row."""

from __future__ import annotations

import re

import numpy as np
import pytest
from napari.layers import Labels, Layer
from qtpy.QtWidgets import QAbstractButton, QAbstractItemView, QComboBox, QDialog, QLabel, QWidget
from tests.helpers.analysed_head import FakeResult
from tests.phantoms.analysis import make_analysis, write_study

from lesionlens.base.labels import Label, MrSequence
from lesionlens.base.run_context import SILENT
from lesionlens.napari.loading import layers_of
from lesionlens.napari.model.overlays.maps import overlays_of

SAID = re.compile(r"(?<!non-)\benhanc|\bET\b", re.IGNORECASE)


@pytest.fixture(scope="module", params=[False, True], ids=["without T1c", "with T1c"])
def contrast(request):
    return request.param


@pytest.fixture
def shown(panel, head, tmp_path, contrast):
    """The panel after an analysis of a network that calls a part enhancing whatever it is given."""
    sequences = (MrSequence.FLAIR, MrSequence.T1C if contrast else MrSequence.T2)
    made = make_analysis(head, write_study(head, tmp_path / "head", sequences=sequences))
    for data in layers_of(made.study, SILENT):
        panel.viewer.layers.append(Layer.create(*data))
    panel.actions_.show_result(FakeResult(made), overlays_of(made))
    return panel


def in_closed_dialog(widget):
    """Whether a dialog that is not open holds it; a list of choices is a window of its own."""
    while widget is not None:
        if isinstance(widget, QDialog) and not widget.isVisible():
            return True
        widget = widget.parent()
    return False


NOT_MEASURED = "Without T1c the enhancing volume is not measured."


def words(panel):
    """All that can be read or chosen in the panel, tooltips and dialogs that are closed apart."""
    yield from (text.replace(NOT_MEASURED, "") for text in all_words(panel))


def all_words(panel):
    for widget in panel.findChildren(QWidget):
        if isinstance(widget, QLabel | QAbstractButton) and widget.isVisibleTo(panel):
            yield widget.text()
        if isinstance(widget, QComboBox) and not in_closed_dialog(widget):
            model = widget.model()
            rows = range(widget.count())
            yield from (widget.itemText(n) for n in rows if model.item(n).isEnabled())
    for view in panel.findChildren(QAbstractItemView):
        if in_closed_dialog(view):
            continue
        table = view.model()
        for row in range(table.rowCount()):
            for column in range(table.columnCount()):
                yield str(table.data(table.index(row, column)) or "")


def test_only_with_t1c_is_anything_enhancing(shown, contrast):
    assert any(NOT_MEASURED in word for word in all_words(shown)) is not contrast
    assert bool([word for word in words(shown) if SAID.search(word)]) is contrast
    assert any(SAID.search(layer.name) for layer in shown.viewer.layers) is False


def test_only_with_t1c_can_a_part_be_drawn_as_enhancing(shown, contrast):
    shown.session.go_to_candidate(1)
    assert shown.session.begin_edit()
    drawn = [layer for layer in shown.viewer.layers if isinstance(layer, Labels)]
    assert drawn
    assert any((np.asarray(layer.data) == Label.ENHANCING).any() for layer in drawn) is contrast
    assert bool([word for word in words(shown) if SAID.search(word)]) is contrast
    shown.session.end_edit()
