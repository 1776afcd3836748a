"""Quick questions in a thread of their own: the last one asked is answered, those between are not.

For what takes a tenth of a second and is asked again while the reader moves a pointer or a choice:
no progress, no Cancel, and what runs in `jobs` is not disturbed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any, NamedTuple

from qtpy.QtCore import QObject

from lesionlens.napari.model.acts.session import QUESTION, ReviewSession
from lesionlens.napari.qt.jobs import Messenger, Task, problem_of, work


class _PendingTask(NamedTuple):
    key: Hashable
    task: Task
    done: Callable[[Any], None]
    refused: Callable[[BaseException], None]


class LatestQuestion(QObject):
    """Answers one question at a time, then the last one that was asked meanwhile.

    Parameters
    ----------
    session : ReviewSession
        Notified of failures, on the main thread.
    parent : QObject or None
        When it goes, what is being answered is dropped.
    """

    def __init__(self, session: ReviewSession, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._now: _PendingTask | None = None
        self._next: _PendingTask | None = None
        self._messenger: Messenger | None = None

    @property
    def running(self) -> bool:
        """Whether something is being answered."""
        return self._now is not None

    def ask(
        self,
        key: Hashable,
        task: Task,
        done: Callable[[Any], None],
        refused: Callable[[BaseException], None] | None = None,
    ) -> None:
        """Answer a question, at once or after the one that runs.

        Parameters
        ----------
        key : hashable
            Names the question; one that is being answered already is not asked again.
        task : callable
            As of `Jobs.start`; runs in a thread.
        done : callable
            Takes the answer on the main thread.
        refused : callable, optional
            Takes an error on the main thread; without it, the session shows the error.
        """
        question = _PendingTask(key, task, done, refused or self._fail)
        if self._now is None:
            self._start(question)
        elif self._now.key == key:
            self._next = None
        else:
            self._next = question

    def abandon(self) -> None:
        """Hear no more answers: the window closes."""
        if self._messenger is not None:
            self._messenger.finished.disconnect(self._on_finished)
        self._messenger = self._now = self._next = None

    def _start(self, question: _PendingTask) -> None:
        self._now = question
        self._messenger = Messenger()
        self._messenger.finished.connect(self._on_finished)
        threading.Thread(
            target=work,
            args=(question.task, self._messenger, threading.Event()),
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
