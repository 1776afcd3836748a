"""Wait for slow work on the main thread without freezing the window.

napari asks a reader for layers and waits for the answer. The work runs in a thread meanwhile and
the window goes on painting; clicks and keys wait until it is done.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from qtpy.QtCore import QEventLoop, QObject, QThread, QTimer
from qtpy.QtWidgets import QApplication

T = TypeVar("T")

_LOOK_MS = 30


def painted(work: Callable[[], T]) -> T:
    """Return what `work` returns, or raise what it raises, with the window kept painted.

    Without a window, or on another thread than the window's, it is a plain call.
    """
    app = QApplication.instance()
    if app is None or app.thread() != QThread.currentThread():
        return work()
    answer: dict[str, Any] = {}

    def run() -> None:
        try:
            answer["value"] = work()
        except BaseException as error:  # noqa: BLE001 (handed over to the waiting thread)
            answer["error"] = error

    thread = threading.Thread(target=run, name="lesionlens-read", daemon=True)
    loop = QEventLoop()
    timer = QTimer()
    timer.setInterval(_LOOK_MS)
    timer.timeout.connect(lambda: None if thread.is_alive() else loop.quit())
    thread.start()
    timer.start()
    loop.exec(QEventLoop.ProcessEventsFlag.ExcludeUserInputEvents)
    timer.stop()
    if "error" in answer:
        raise answer["error"]
    return answer["value"]  # type: ignore[no-any-return]


def once_idle(act: Callable[[], object], parent: QObject, after_ms: int = 0) -> QTimer:
    """Return a timer that calls something once, however often it is started until then.

    It goes with its parent: nothing is called once that is closed.
    """
    timer = QTimer(parent)
    timer.setSingleShot(True)
    timer.setInterval(after_ms)
    timer.timeout.connect(act)
    return timer


def when_idle(act: Callable[[], object], after_ms: int = 0) -> None:
    """Call something once the window has nothing else to do; never without a window."""
    if QApplication.instance() is not None:
        QTimer.singleShot(after_ms, act)
