"""Jobs in a thread: progress, cancellation and errors arrive on the main thread.

A task is a callable `task(context)` that returns one complete value. It runs in a Python thread, so
that the window stays responsive. Only one job runs at a time.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import logging
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QCoreApplication, QObject, Signal

from lesionlens.base.errors import CancelledError, LesionLensError, environment_error
from lesionlens.base.run_context import RunContext
from lesionlens.napari.model.state.holder import JobReports
from lesionlens.napari.model.state.state import Problem
from lesionlens.napari.qt.threads import start_thread

logger = logging.getLogger(__name__)

_PROGRESS_INTERVAL_S = 0.15  # minimum time between two progress reports of a stage
_STOPPING = "The last job is being stopped: wait until its current step finishes, then try again."
_SHUTDOWN_WAIT_S = 10.0  # maximum wait for cancelled tasks when the application ends
_running: dict[threading.Thread, threading.Event] = {}
Task = Callable[[RunContext], Any]


class Messenger(QObject):
    """Carries signals out of the thread; has no parent, so that it may outlive the window."""

    progressed = Signal(str, float)
    partial_ready = Signal(object)
    finished = Signal(object, object)


class Jobs(QObject):
    """Runs one task at a time for a session.

    Parameters
    ----------
    session : JobReports
        Notified of begin, progress, end and failure, on the main thread.
    parent : QObject or None
        Owner; when it is deleted, the running task is cancelled and its result discarded.
    """

    def __init__(self, session: JobReports, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._cancel = threading.Event()
        self._thread: threading.Thread | None = None
        self._messenger: Messenger | None = None
        self._name = ""
        self._on_result: Callable[[Any], str | None] | None = None
        self._on_error: Callable[[BaseException], None] | None = None
        self._newest = cancel_if_deleted(self)

    @property
    def running(self) -> bool:
        """Whether a task is running."""
        return self._thread is not None

    @property
    def busy_reason(self) -> str:
        """The reason, for the reader, why no task can be started now; empty if one can."""
        if not self.running:
            return ""
        if self._cancel.is_set():
            return _STOPPING
        return f"{self._name}: wait until it finishes, or cancel it, then try again."

    def start(
        self,
        name: str,
        task: Task,
        on_result: Callable[[Any], str | None],
        on_error: Callable[[BaseException], None] | None = None,
        on_partial: Callable[[Any], None] | None = None,
    ) -> bool:
        """Run a task.

        Parameters
        ----------
        name : str
            Name of the job, for the reader.
        task : callable
            `task(context)`, in a thread.
        on_result : callable
            Takes its value on the main thread; may return a message.
        on_error : callable, optional
            Takes its error, including CancelledError, on the main thread; by default the session
            shows it.
        on_partial : callable, optional
            Takes intermediate records of the task (`emit_partial`) on the main thread.

        Returns
        -------
        bool
            False if another job is running; nothing is started then, and the session shows why.
        """
        if self.running:
            return self._session.decline(self.busy_reason)
        self._cancel = self._newest[0] = threading.Event()
        self._name, self._on_result, self._on_error = name, on_result, on_error
        messenger = Messenger()
        messenger.progressed.connect(self._on_progress)
        messenger.finished.connect(self._on_finished)
        if on_partial is not None:
            messenger.partial_ready.connect(on_partial)
        self._messenger = messenger
        end_with_application()
        self._session.begin(name)
        self._thread = start_thread("lesionlens-job", work, task, messenger, self._cancel)
        return True

    def emit_partial(self, value: Any) -> None:
        """Pass an intermediate record to `on_partial`; called from the thread of the task."""
        messenger = self._messenger
        if messenger is not None and not self._cancel.is_set():
            messenger.partial_ready.emit(value)

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
        self._messenger = self._thread = self._on_result = self._on_error = None

    def _on_progress(self, stage: str, fraction: float) -> None:
        self._session.progressed(stage, fraction)

    def _on_finished(self, value: Any, error: BaseException | None) -> None:
        on_result, self._on_result = self._on_result, None
        on_error, self._on_error = self._on_error, None
        self._thread = self._messenger = None
        if isinstance(error, CancelledError):
            self._session.ended(f"Stopped. {error.outcome}")
        elif error is not None and on_error is None:
            self._session.failed(problem_of(error))
        elif error is None:
            self._session.ended()
        message = None
        try:
            if error is None and on_result is not None:
                message = on_result(value)
            elif error is not None and on_error is not None:
                on_error(error)
        except Exception as failure:
            logger.exception("displaying the outcome of a job failed")
            self._session.failed(problem_of(failure))
        if message:
            self._session.ended(message)


def end_all() -> None:
    """Cancel the tasks of all windows, and wait until they have deleted their partial output.

    It is called by the application, as the `Jobs` of a closed window no longer exist.
    """
    deadline = time.monotonic() + _SHUTDOWN_WAIT_S
    for cancel in tuple(_running.values()):
        cancel.set()
    for thread in tuple(_running):
        thread.join(max(deadline - time.monotonic(), 0.0))


def cancel_if_deleted(owner: QObject) -> list[threading.Event]:
    """Return a list whose first event is set when its owner is deleted.

    A viewer that a script closes deletes its widgets at once; without the event their tasks would
    continue and emit signals of deleted objects.
    """
    newest = [threading.Event()]

    def cancel() -> None:
        newest[0].set()

    owner.destroyed.connect(cancel)
    return newest


@functools.cache
def end_with_application() -> None:
    """Cancel all tasks when the application ends, or the interpreter, as after a script.

    A thread that the interpreter ends within SimpleITK aborts the process.
    """
    atexit.register(end_all)
    app = QCoreApplication.instance()
    if app is not None:
        app.aboutToQuit.connect(end_all)


def work(task: Task, messenger: Messenger, cancel: threading.Event) -> None:
    """Run a task and send its value, or its error, to the main thread.

    Errors after cancellation are not logged, as a task may fail while the interpreter shuts down.
    """
    last_stage, reported_at = "", 0.0
    _running[threading.current_thread()] = cancel

    def progress(stage: str, fraction: float) -> None:
        """Forward progress at a limited rate, as a network reports every layer."""
        nonlocal last_stage, reported_at
        now = time.monotonic()
        if stage != last_stage or now - reported_at >= _PROGRESS_INTERVAL_S:
            last_stage, reported_at = stage, now
            messenger.progressed.emit(stage, fraction)

    value: Any = None
    error: BaseException | None = None
    try:
        value = task(RunContext(progress, cancel))
    except LesionLensError as refusal:
        error = refusal
    except Exception as failure:
        error = environment_error(failure) or failure
        if error is failure and not cancel.is_set():
            logger.exception("a job failed")
    _running.pop(threading.current_thread(), None)
    with contextlib.suppress(RuntimeError):  # the window is closed, and Qt's object with it
        messenger.finished.emit(value, error)


def problem_of(error: BaseException, cause: str = "") -> Problem:
    """Convert an error to a problem for the panel (`Problem.cause`); a defect has its traceback."""
    error = environment_error(error) or error
    if isinstance(error, LesionLensError):
        return Problem(
            title="The action failed",
            found=error.found,
            expected=error.expected,
            next_step=error.in_window,
            cause=cause,
        )
    return Problem(
        title="A defect in LesionLens",
        found=f"{type(error).__name__}: {error}",
        expected="no such error",
        next_step="Your study and your decisions are kept. Try again, and report the details",
        details="".join(traceback.format_exception(error)),
        cause=cause,
    )
