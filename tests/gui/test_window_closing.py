"""What a closed window stores: the dock is deleted with it and not released by itself."""

from __future__ import annotations

import threading
from unittest.mock import Mock

import pytest
from qtpy.QtCore import QCoreApplication, QEvent, QObject
from qtpy.QtWidgets import QMainWindow, QVBoxLayout, QWidget
from tests.gui.window import PATIENCE_MS, read, wait

from lesionlens.base.errors import ResourceError
from lesionlens.base.labels import ReviewAct
from lesionlens.napari.qt.jobs import Jobs
from lesionlens.napari.qt.keyboard import main_window
from lesionlens.napari.qt.latest_request import LatestRequest, RequestKey
from lesionlens.napari.qt.window_closing import WindowClosing
from lesionlens.site.worklist.read_session import ReadSession


@pytest.fixture
def window(qtbot):
    window = QMainWindow()
    reported = []
    watch = WindowClosing(window, window)
    watch.closing.connect(lambda: reported.append(window.isVisible()))
    return window, reported


FULL = ResourceError(found="a full disk", expected="free space", next_step="Free some")


def accept_with_reason(panel, listed, qtbot):
    assert listed.controller.open(listed.list_folder)
    panel.commands.run("next_study")
    wait(qtbot, panel)
    panel.commands.run("next_candidate")
    panel.commands.run("accept")
    panel.session.type_reason("clear in T1c")


def test_a_closed_window_leaves_the_study_and_keeps_the_typed_reason(panel, listed, qtbot):
    accept_with_reason(panel, listed, qtbot)
    panel.findChild(WindowClosing).closing.emit()
    acts = read(listed, "a").acts
    assert acts[-1].act is ReviewAct.LEAVE
    assert acts[-2].reason == "clear in T1c"
    panel.findChild(WindowClosing).closing.emit()  # the application ends after its last window
    assert read(listed, "a").acts == acts


def test_a_reader_does_not_close_a_window_at_once_whose_decision_is_not_stored(
    panel, listed, qtbot, monkeypatch
):
    """The window was gone at the first click, and the decision with it."""
    accept_with_reason(panel, listed, qtbot)
    window, saver = main_window(panel), panel.actions_.read_controller.saver
    close, closes = QEvent(QEvent.Type.Close), []
    monkeypatch.setattr(QEvent, "spontaneous", lambda _: True, raising=False)
    watch = panel.findChild(WindowClosing)
    with monkeypatch.context() as full:
        full.setattr(ReadSession, "store_decisions", Mock(side_effect=FULL))
        for _ in range(2):
            closes.append(not watch.eventFilter(window, close))
            assert not saver.all_saved
    assert closes == [False, True]
    assert "would be lost" in panel.session.state.message
    assert not watch.eventFilter(window, close)
    assert saver.all_saved
    assert read(listed, "a").acts[-1].reason == "clear in T1c"


def test_a_close_by_napari_key_is_refused_once_and_a_script_is_not(qtbot):
    """Ctrl+W, Ctrl+Q and File, Close are no spontaneous events; a script hides the image first."""
    window, image = QMainWindow(), QWidget()
    central = QWidget()
    QVBoxLayout(central).addWidget(image)
    window.setCentralWidget(central)
    answers = iter((False, True))
    WindowClosing(window, window, lambda: next(answers))
    window.show()
    assert not window.close()
    assert window.isVisible()
    assert window.close()
    window.show()
    image.close()
    assert window.close()


def test_tasks_are_cancelled_with_their_window_and_log_nothing(qtbot, caplog):
    """After a script's `viewer.close()` the analysis went on, and failed as Python ended."""
    began, ended = threading.Barrier(3), []

    def task(context):
        began.wait(PATIENCE_MS / 1000)
        ended.append(context.cancel.wait(PATIENCE_MS / 1000))
        raise RuntimeError("the source of a signal is gone")

    window = QObject()
    assert Jobs(Mock(), window).start("work", task, Mock())
    LatestRequest(Mock(), window).submit(RequestKey("key"), task, Mock())
    began.wait(PATIENCE_MS / 1000)
    window.deleteLater()
    QCoreApplication.sendPostedEvents(window, QEvent.Type.DeferredDelete.value)
    qtbot.waitUntil(lambda: ended == [True, True], timeout=PATIENCE_MS)
    assert not caplog.records
