"""Jobs in a thread: progress, cancellation and errors arrive on the main thread.

A task is a callable `task(context)` that returns one complete value. It runs in a Python thread, so
that the window stays responsive. Only one job runs at a time.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QCoreApplication, QObject, Signal

from lesionlens.base.errors import CancelledError, LesionLensError, ResourceError, ServerError
from lesionlens.base.run_context import RunContext
from lesionlens.napari.model.state.holder import JobReports
from lesionlens.napari.model.state.state import Problem

logger = logging.getLogger(__name__)

_TELL_S = 0.15  # minimum seconds between two progress reports of a stage
_BUSY = "A job is still running: wait for it or cancel it, then try again."
_STOPPING = "The last job is being stopped: its present step has to end first. Try again then."
_LEAVE_S = 10.0  # longest wait for cancelled tasks when the application ends
_running: dict[threading.Thread, threading.Event] = {}
Task = Callable[[RunContext], Any]


class Messenger(QObject):
    """Carries signals out of the thread; has no parent, so that it may outlive the window."""

    progressed = Signal(str, float)
    handed = Signal(object)
    finished = Signal(object, object)


class Jobs(QObject):
    """Runs one task at a time for a session.

    Parameters
    ----------
    session : JobReports
        Notified of begin, progress, end and failure, on the main thread.
    parent : QObject or None
        Owner; when it is deleted, the running task is cancelled and its result dropped.
    """

    def __init__(self, session: JobReports, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._cancel = threading.Event()
        self._thread: threading.Thread | None = None
        self._messenger: Messenger | None = None
        self._done: Callable[[Any], str | None] | None = None
        self._refused: Callable[[BaseException], None] | None = None
        self._newest = cancel_if_deleted(self)

    @property
    def running(self) -> bool:
        """Whether a task is running."""
        return self._thread is not None

    @property
    def why_busy(self) -> str:
        """Why no other task can be started while one is running."""
        return _STOPPING if self._cancel.is_set() else _BUSY

    def start(
        self,
        words: str,
        task: Task,
        done: Callable[[Any], str | None],
        refused: Callable[[BaseException], None] | None = None,
        partly: Callable[[Any], None] | None = None,
    ) -> bool:
        """Run a task.

        Parameters
        ----------
        words : str
            Name of the job, for the reader.
        task : callable
            `task(context)`, in a thread.
        done : callable
            Takes its value on the main thread; may return a message.
        refused : callable, optional
            Takes its error, including CancelledError, on the main thread; by default the session
            shows it.
        partly : callable, optional
            Takes intermediate records of the task (`hand_over`) on the main thread.

        Returns
        -------
        bool
            False if another job is running; nothing is started then, and the session shows why.
        """
        if self.running:
            self._session.decline(self.why_busy)
            return False
        self._cancel = self._newest[0] = threading.Event()
        self._done, self._refused = done, refused
        messenger = Messenger()
        messenger.progressed.connect(self._on_progress)
        messenger.finished.connect(self._on_finished)
        if partly is not None:
            messenger.handed.connect(partly)
        self._messenger = messenger
        end_with_application()
        self._session.begin(words)
        self._thread = threading.Thread(
            target=work, args=(task, messenger, self._cancel), name="lesionlens-job", daemon=True
        )
        self._thread.start()
        return True

    def hand_over(self, value: Any) -> None:
        """Pass a complete record to `partly` of the running task; called from its thread."""
        messenger = self._messenger
        if messenger is not None and not self._cancel.is_set():
            messenger.handed.emit(value)

    def stop(self) -> None:
        """Request cancellation; the task stops between two steps."""
        if self.running:
            self._cancel.set()
            self._session.stopping()

    def abandon(self) -> None:
        """Cancel and disconnect: the window is being closed."""
        self._cancel.set()
        if self._messenger is not None:
            self._messenger.progressed.disconnect(self._on_progress)
            self._messenger.finished.disconnect(self._on_finished)
        self._messenger = self._thread = self._done = self._refused = None

    def _on_progress(self, stage: str, fraction: float) -> None:
        self._session.progressed(stage, fraction)

    def _on_finished(self, value: Any, error: BaseException | None) -> None:
        done, self._done = self._done, None
        refused, self._refused = self._refused, None
        self._thread = self._messenger = None
        if isinstance(error, CancelledError):
            self._session.ended("Stopped. Nothing was changed.")
        elif error is not None and refused is None:
            self._session.failed(problem_of(error))
        if error is not None:
            if refused is not None:
                refused(error)
        else:
            self._session.ended()
            try:
                message = done(value) if done is not None else None
            except Exception as failure:
                logger.exception("displaying a result failed")
                self._session.failed(problem_of(failure))
            else:
                if message:
                    self._session.ended(message)


def end_all() -> None:
    """Cancel the tasks of all windows, and wait until they have deleted their partial output.

    It belongs to the application, as a window that is closed takes its jobs with it.
    """
    until = time.monotonic() + _LEAVE_S
    for cancel in tuple(_running.values()):
        cancel.set()
    for thread in tuple(_running):
        thread.join(max(until - time.monotonic(), 0.0))


def cancel_if_deleted(owner: QObject) -> list[threading.Event]:
    """Return a list whose first event is set when its owner is deleted.

    A viewer that a script closes deletes its widgets at once. Their tasks went on, and logged that
    the source of their signals was gone.
    """
    newest = [threading.Event()]

    def cancel() -> None:
        newest[0].set()

    owner.destroyed.connect(cancel)
    return newest


@functools.cache
def end_with_application() -> None:
    """Cancel all tasks when the application ends."""
    app = QCoreApplication.instance()
    if app is not None:
        app.aboutToQuit.connect(end_all)


def work(task: Task, messenger: Messenger, cancel: threading.Event) -> None:
    """Run a task and send its value, or its error, to the main thread.

    What fails after the task was cancelled is not logged: while Python ends, a task cannot go on.
    """
    reported, when = "", 0.0
    _running[threading.current_thread()] = cancel

    def progress(stage: str, fraction: float) -> None:
        """Forward progress at a limited rate, as a network reports every layer."""
        nonlocal reported, when
        now = time.monotonic()
        if stage != reported or now - when >= _TELL_S:
            reported, when = stage, now
            messenger.progressed.emit(stage, fraction)

    value: Any = None
    error: BaseException | None = None
    try:
        value = task(RunContext(progress, cancel))
    except LesionLensError as refusal:
        error = refusal
    except MemoryError:
        error = ResourceError(
            found="too little memory",
            expected="about 3 GB free for one study",
            next_step="Close other programs, or analyse on a larger machine",
        )
    except Exception as failure:
        if not cancel.is_set():
            logger.exception("a job failed")
        error = failure
    _running.pop(threading.current_thread(), None)
    with contextlib.suppress(RuntimeError):  # the window is closed, and Qt's object with it
        messenger.finished.emit(value, error)


def problem_of(error: BaseException) -> Problem:
    """Convert an error to a problem for the panel; a defect keeps its traceback."""
    if isinstance(error, LesionLensError):
        return Problem(
            title="The action failed",
            found=error.found,
            expected=error.expected,
            next_step=error.in_window,
            of_server=isinstance(error, ServerError),
        )
    return Problem(
        title="A defect in LesionLens",
        found=f"{type(error).__name__}: {error}",
        expected="no such error",
        next_step="Your study and your decisions are kept. Try again, and report the details",
        details="".join(traceback.format_exception(error)),
    )
