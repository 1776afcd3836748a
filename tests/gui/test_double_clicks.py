"""Double clicks on controls that the first click moves or renames."""

from __future__ import annotations

import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication
from tests.gui.window import control, settled, wait

from lesionlens.napari.model.choices.views import Layout
from lesionlens.napari.model.geometry.measures import MeasureKind

LEFT_BUTTON = Qt.MouseButton.LeftButton


@pytest.fixture
def focused(reviewed, qtbot):
    """An analysed study with a candidate in focus."""
    wait(qtbot, reviewed)
    reviewed.session.go_to_candidate(1)
    yield reviewed
    reviewed.commands.run("discard_edit")


def click(widget):
    QTest.mouseClick(widget, LEFT_BUTTON)


def second_click(widget):
    """Press a second time, as a double click does on what lies under the pointer then."""
    QTest.mouseDClick(widget, LEFT_BUTTON)
    QTest.mouseRelease(widget, LEFT_BUTTON)


def test_a_double_click_on_edit_begins_the_edit_and_does_not_end_it(focused):
    """The second click kept the outline: nothing seemed to happen."""
    edit = control(focused, "Edit")
    click(edit)
    second_click(edit)
    assert focused.session.state.editing == 1


def test_the_second_click_does_not_press_what_has_moved_under_the_pointer(focused):
    """The panel scrolls to the tools of an edit: a tool changed the outline."""
    click(control(focused, "Edit"))
    tools = focused.session.state.tools
    second_click(control(focused, "ball"))
    assert focused.session.state.tools == tools
    click(control(focused, "ball"))
    assert focused.session.state.tools.ball != tools.ball


def test_a_double_click_on_done_keeps_the_outline_and_does_not_edit_again(focused, qtbot):
    focused.commands.run("edit_outline")
    done = control(focused, "Done")
    click(done)
    settled(focused, qtbot)
    second_click(done)
    assert not focused.session.state.editing


def test_undo_pressed_in_quick_succession_undoes_each_time(focused):
    for act in ("accept", "reject", "defer"):
        focused.commands.run(act)
    undo = control(focused, "Undo")
    click(undo)
    second_click(undo)
    uid = focused.session.state.focused.tracking_uid
    assert focused.session.state.review.state_of(uid).value == "accepted"


def test_a_double_click_on_next_goes_one_study_on(panel, listed, qtbot):
    """The study between was opened, and left again, unseen."""
    assert listed.controller.open(listed.list_folder)
    listed.controller.open_row(listed.model.rows[0])
    settled(panel, qtbot)
    following = listed._next
    click(following)
    second_click(following)
    settled(panel, qtbot)
    assert listed.session.state.current == ("b", 0)


def test_a_double_click_with_the_ruler_leaves_no_point(focused):
    """It showed the view alone, with a ruler of one point that nobody meant."""
    focused.actions_.choose_measure(MeasureKind.RULER)
    focused.actions_.show_layout(Layout.FOUR)
    QApplication.processEvents()
    view = focused.views.linked.tiles[0]
    click(view)
    assert len(focused.session.state.choices.views.measures) == 1
    second_click(view)
    assert focused.session.state.choices.views.measures == ()
