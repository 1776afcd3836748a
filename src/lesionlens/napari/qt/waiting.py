"""Wait on the main thread without freezing the window.

napari calls a reader synchronously. The work runs in a thread while the window keeps painting;
clicks and keys wait until it is done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from qtpy.QtCore import QEventLoop, QObject, QThread, QTimer
from qtpy.QtWidgets import QApplication

from lesionlens.napari.qt.threads import start_thread

T = TypeVar("T")

_POLL_INTERVAL_MS = 30


def run_while_painting(work: Callable[[], T]) -> T:
    """Call `work` in a thread while the window keeps painting; return or raise its outcome.

    Without a window, or on another thread, it is a plain call.
    """
    app = QApplication.instance()
    if app is None or app.thread() != QThread.currentThread():
        return work()
    outcome: dict[str, Any] = {}

    def run() -> None:
        try:
            outcome["value"] = work()
        except BaseException as error:  # noqa: BLE001 (handed over to the waiting thread)
            outcome["error"] = error

    thread = start_thread("lesionlens-read", run)
    loop = QEventLoop()
    timer = QTimer()
    timer.setInterval(_POLL_INTERVAL_MS)
    timer.timeout.connect(lambda: None if thread.is_alive() else loop.quit())
    timer.start()
    loop.exec(QEventLoop.ProcessEventsFlag.ExcludeUserInputEvents)
    timer.stop()
    if "error" in outcome:
        raise outcome["error"]
    value: T = outcome["value"]
    return value


def once_idle(callback: Callable[[], object], parent: QObject, after_ms: int = 0) -> QTimer:
    """Return a single-shot timer, which may be restarted before it fires.

    It is deleted with its parent, after which nothing is called.
    """
    timer = QTimer(parent)
    timer.setSingleShot(True)
    timer.setInterval(after_ms)
    timer.timeout.connect(callback)
    return timer


def when_idle(callback: Callable[[], object], after_ms: int = 0) -> None:
    """Call a function once the event loop is idle; never without a window."""
    if QApplication.instance() is not None:
        QTimer.singleShot(after_ms, callback)
