"""Holder of the frozen `State`; emits changes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any

from psygnal import Signal
from typing_extensions import override

from lesionlens.napari.model.choices.choices import Choices
from lesionlens.napari.model.state.state import Activity, Notice, Problem, State


class JobReports(ABC):
    """Stores the reports of a job on the main thread in a state; see `qt.jobs.Jobs`."""

    state: Any
    """Frozen record with at least `activity`, `problem` and `message`."""

    @abstractmethod
    def _set(self, **changes: Any) -> None:
        """Replace fields of the state, and emit that it changed."""

    def begin(self, name: str) -> None:
        """Report that a job runs."""
        self._set(activity=Activity(name), problem=None, message="")

    def progressed(self, stage: str, fraction: float) -> None:
        """Report the progress of the job, 0 to 1 in each stage."""
        if self.state.activity is not None:
            self._set(activity=self.state.activity.at(stage, fraction))

    def stopping(self) -> None:
        """Report that a stop was requested."""
        if self.state.activity is not None:
            self._set(activity=replace(self.state.activity, stopping=True))

    def ended(self, message: str = "") -> None:
        """Report that the job has ended."""
        self._set(activity=None, message=message)

    def failed(self, problem: Problem) -> None:
        """Report the failure of the job; all other fields are kept."""
        self._set(activity=None, problem=problem)

    def refused(self, problem: Problem) -> None:
        """Report the failure of an act; the running job continues."""
        self._set(problem=problem)

    def decline(self, reason: str) -> bool:
        """Show the reason why an act was not done; return False, as that act does."""
        self._set(message=reason)
        return False

    def refuses(self, reason: str) -> bool:
        """Whether there is a reason not to do an act, which is shown; empty if there is none."""
        return bool(reason) and not self.decline(reason)

    def notify(self, message: str) -> None:
        """Show a message, also while a job runs."""
        self._set(message=message)

    def clear_problem(self, cause: str) -> None:
        """Hide a failure whose cause no longer exists."""
        if self.state.problem is not None and self.state.problem.cause == cause:
            self._set(problem=None)


class ScreenHolder(JobReports):
    """Holds the frozen screen of a dialog or dock; every change replaces it and emits it."""

    changed = Signal(object)
    """The new screen."""

    @property
    def screen(self) -> Any:
        """The current content: what widgets read, as they read no session's state."""
        return self.state

    @override
    def _set(self, **changes: Any) -> None:
        self.state = replace(self.state, **changes)
        self.changed.emit(self.state)


class StateHolder(JobReports):
    """Holds the state; an act without a change emits nothing."""

    changed = Signal(State, State, reemission="queued")
    """Old state, new state: every subscriber gets each change once, in the order of the changes,
    also of those that another subscriber makes."""
    happened = Signal(object)
    """An `Event`."""

    def __init__(self, choices: Choices) -> None:
        self._state = State(choices=choices)

    @property
    @override
    def state(self) -> State:
        """The current state."""
        return self._state

    @override
    def _set(self, **changes: Any) -> None:
        old = self._state
        if all(getattr(old, name) is value for name, value in changes.items()):
            return
        if "message" in changes:
            changes = {"declined": False, "notice": Notice.OTHER} | changes
        self._replace(replace(old, **changes))

    def _replace(self, state: State) -> None:
        """Replace the whole state."""
        old, self._state = self._state, state
        self.changed.emit(old, state)

    def _choose(self, **changes: Any) -> None:
        """Change choices and clear the previous message."""
        choices = replace(self._state.choices, **changes)
        if choices != self._state.choices:
            self._set(choices=choices, message="")

    @override
    def notify(self, message: str, notice: Notice = Notice.OTHER) -> None:
        """Show a message of a kind, also while a job runs."""
        self._set(message=message, notice=notice)

    @override
    def decline(self, reason: str, notice: Notice = Notice.OTHER) -> bool:
        """Show why an act was not done, and return False; empty clears the message."""
        self._set(message=reason, declined=bool(reason), notice=notice)
        return False
