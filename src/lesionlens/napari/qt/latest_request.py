"""Short requests in their own thread, of which only the latest waiting one is processed.

For requests of about a tenth of a second that are repeated while a pointer or choice moves: without
progress or cancellation, and independent of `jobs`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any, NamedTuple

from qtpy.QtCore import QObject

from lesionlens.napari.model.acts.session import QUESTION, ReviewSession
from lesionlens.napari.qt.jobs import (
    Messenger,
    Task,
    cancel_if_deleted,
    end_with_application,
    problem_of,
    work,
)


class _PendingTask(NamedTuple):
    key: Hashable
    task: Task
    done: Callable[[Any], None]
    refused: Callable[[BaseException], None]


class LatestRequest(QObject):
    """Processes one request at a time, then the latest one made meanwhile.

    Parameters
    ----------
    parent : QObject or None
        Owner; when it is deleted, the running request is dropped.
    """

    def __init__(self, session: ReviewSession, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._now: _PendingTask | None = None
        self._next: _PendingTask | None = None
        self._messenger: Messenger | None = None
        self._closed = cancel_if_deleted(self)[0]

    @property
    def running(self) -> bool:
        """Whether a request is running."""
        return self._now is not None

    def ask(
        self,
        key: Hashable,
        task: Task,
        done: Callable[[Any], None],
        refused: Callable[[BaseException], None] | None = None,
    ) -> None:
        """Process a request, after the running one.

        Parameters
        ----------
        key : hashable
            Key of the request; one that is already running is not repeated.
        task : callable
            As for `Jobs.start`; runs in a thread.
        done : callable
            Takes the response on the main thread.
        refused : callable, optional
            Takes an error on the main thread; by default the session shows it.
        """
        question = _PendingTask(key, task, done, refused or self._fail)
        if self._now is None:
            self._start(question)
        elif self._now.key == key:
            self._next = None
        else:
            self._next = question

    def abandon(self) -> None:
        """Cancel the running request and drop all: the window is being closed."""
        self._closed.set()
        if self._messenger is not None:
            self._messenger.finished.disconnect(self._on_finished)
        self._messenger = self._now = self._next = None

    def _start(self, question: _PendingTask) -> None:
        self._now = question
        self._messenger = Messenger()
        self._messenger.finished.connect(self._on_finished)
        end_with_application()
        threading.Thread(
            target=work,
            args=(question.task, self._messenger, self._closed),
            name="lesionlens-question",
            daemon=True,
        ).start()

    def _on_finished(self, value: Any, error: BaseException | None) -> None:
        question, self._now, self._messenger = self._now, None, None
        if question is None:
            return
        if error is None:
            question.done(value)
            self._session.clear_problem(QUESTION)
        else:
            question.refused(error)
        following, self._next = self._next, None
        if following is not None and self._now is None:
            self._start(following)

    def _fail(self, error: BaseException) -> None:
        self._session.refused(replace(problem_of(error), cause=QUESTION))
