"""What a closed window stores: the dock is deleted with it and not released by itself."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
from qtpy.QtCore import QCoreApplication, QEvent
from qtpy.QtWidgets import QMainWindow
from tests.gui.window import read, wait

from lesionlens.base.labels import ReviewAct
from lesionlens.napari.qt.window_closing import WindowClosing


@pytest.fixture
def window(qtbot):
    window = QMainWindow()
    reported = []
    watch = WindowClosing(window, window)
    watch.closing.connect(lambda: reported.append(window.isVisible()))
    return window, reported


def test_a_window_reports_its_deletion_and_no_close_that_may_be_declined(window):
    window, reported = window
    window.show()
    window.close()
    assert reported == []
    window.deleteLater()
    QCoreApplication.sendPostedEvents(window, QEvent.Type.DeferredDelete.value)
    assert reported == [False]


def test_a_closed_window_leaves_the_study_and_keeps_the_typed_reason(panel, listed, qtbot):
    assert listed.controller.open(listed.list_folder)
    panel.commands.run("next_study")
    wait(qtbot, panel)
    panel.commands.run("next_candidate")
    panel.commands.run("accept")
    panel.session.type_reason("clear in T1c")
    panel.findChild(WindowClosing).closing.emit()
    acts = read(listed, "a").acts
    assert acts[-1].act is ReviewAct.LEAVE
    assert acts[-2].reason == "clear in T1c"
    panel.findChild(WindowClosing).closing.emit()  # the application ends after its last window
    assert read(listed, "a").acts == acts


def test_the_analysis_ahead_stops_with_its_window_though_napari_goes_on(panel, listed, qtbot):
    """Another window was open: the process went on until napari ended."""
    qtbot.waitUntil(lambda: listed.findChild(WindowClosing) is not None, timeout=60_000)
    stdin = Mock()
    listed.controller._process = Mock(stdin=stdin)
    listed.findChild(WindowClosing).closing.emit()
    stdin.close.assert_called_once_with()
