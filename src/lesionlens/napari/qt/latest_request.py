"""Short requests in their own thread, of which only the latest waiting one of a kind is processed.

For requests of about a tenth of a second that are repeated while a pointer or choice moves: without
progress or cancellation, and independent of `jobs`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, NamedTuple

from qtpy.QtCore import QObject, QTimer

from lesionlens.napari.model.acts.session import QUESTION, ReviewSession
from lesionlens.napari.qt.jobs import (
    Messenger,
    Task,
    cancel_if_deleted,
    end_with_application,
    problem_of,
    work,
)
from lesionlens.napari.qt.threads import start_thread


class RequestKey(NamedTuple):
    """What is requested."""

    kind: str
    """Name of the kind: a waiting request is replaced by a later one of its kind only."""
    subject: Hashable = None
    """Distinguishes the requests of a kind."""


class _PendingTask(NamedTuple):
    key: RequestKey
    task: Task
    on_result: Callable[[Any], None]
    on_error: Callable[[BaseException], None]
    on_slow: Callable[[bool], None] | None = None


_SLOW_MS = 2000


class LatestRequest(QObject):
    """Processes one request at a time, then the latest one of each kind made meanwhile.

    If `parent` is deleted, the running request is cancelled.
    """

    def __init__(self, session: ReviewSession, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._running_task: _PendingTask | None = None
        self._waiting_tasks: dict[str, _PendingTask] = {}
        self._messenger: Messenger | None = None
        self._cancel = cancel_if_deleted(self)[0]

    @property
    def running(self) -> bool:
        """Whether a request is running."""
        return self._running_task is not None

    def submit(
        self,
        key: RequestKey,
        task: Task,
        on_result: Callable[[Any], None],
        on_error: Callable[[BaseException], None] | None = None,
        *,
        on_slow: Callable[[bool], None] | None = None,
    ) -> None:
        """Process a request, after the running one.

        Parameters
        ----------
        key : RequestKey
            Kind and subject of the request; one that is already running is not repeated.
        task : callable
            As for `Jobs.start`; runs in a thread.
        on_result : callable
            Takes the response on the main thread.
        on_error : callable, optional
            Takes an error on the main thread; by default the session shows it.
        on_slow : callable, optional
            Takes True on the main thread if there is no response after two seconds, as of a server
            that is stopped, and False at the response.
        """
        request = _PendingTask(key, task, on_result, on_error or self._fail, on_slow)
        self._waiting_tasks.pop(key.kind, None)
        if self._running_task is None:
            self._start(request)
        elif self._running_task.key != key:
            self._waiting_tasks[key.kind] = request

    def abandon(self) -> None:
        """Cancel the running request and discard the waiting ones: the window is being closed."""
        self._cancel.set()
        if self._messenger is not None:
            self._messenger.finished.disconnect(self._on_finished)
        self._messenger = self._running_task = None
        self._waiting_tasks.clear()

    def _start(self, request: _PendingTask) -> None:
        self._running_task = request
        self._messenger = Messenger()
        self._messenger.finished.connect(self._on_finished)
        end_with_application()
        if request.on_slow is not None:
            QTimer.singleShot(_SLOW_MS, self, partial(self._report_slow, request))
        start_thread("lesionlens-question", work, request.task, self._messenger, self._cancel)

    def _report_slow(self, request: _PendingTask) -> None:
        if self._running_task is request and request.on_slow is not None:
            request.on_slow(True)

    def _on_finished(self, value: Any, error: BaseException | None) -> None:
        request, self._running_task, self._messenger = self._running_task, None, None
        if request is None:
            return
        if request.on_slow is not None:
            request.on_slow(False)
        try:
            if error is None:
                request.on_result(value)
            else:
                request.on_error(error)
        finally:
            if self._waiting_tasks and self._running_task is None:
                self._start(self._waiting_tasks.pop(next(iter(self._waiting_tasks))))

    def _fail(self, error: BaseException) -> None:
        self._session.refused(problem_of(error, QUESTION))
