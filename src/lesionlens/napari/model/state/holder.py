"""Holder of the frozen `State`; emits changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from psygnal import Signal

from lesionlens.base.records.findings import Candidate
from lesionlens.napari.model.choices.choices import Choices
from lesionlens.napari.model.state.state import State, listed


class StateHolder:
    """Holds the state; an act without a change emits nothing."""

    changed = Signal(State, State)
    """Old state, new state."""
    happened = Signal(object)
    """An `Event`."""

    def __init__(self, choices: Choices) -> None:
        self._state = State(choices=choices)

    @property
    def state(self) -> State:
        """The current state."""
        return self._state

    def _set(self, **changes: Any) -> None:
        old = self._state
        if all(getattr(old, name) is value for name, value in changes.items()):
            return
        if "message" in changes:
            changes = {"declined": False} | changes
        self._state = replace(old, **changes)
        self.changed.emit(old, self._state)

    def _choose(self, **changes: Any) -> None:
        """Change choices and clear the previous message."""
        choices = replace(self._state.choices, **changes)
        if choices != self._state.choices:
            self._set(choices=choices, message="")

    def listed(self) -> tuple[Candidate, ...]:
        """Return the candidates at or above the threshold."""
        analysis = self._state.analysis
        if analysis is None:
            return ()
        return listed(analysis, self._state.choices.threshold)

    def candidate(self) -> Candidate | None:
        """Return the candidate in focus."""
        wanted = self._state.choices.candidate
        return next((c for c in self.listed() if c.id == wanted), None)

    def notify(self, message: str) -> None:
        """Show a message."""
        self._set(message=message)

    def decline(self, why: str) -> None:
        """Show why an act was not done; empty clears the message."""
        self._set(message=why, declined=bool(why))

    def clear_problem(self, cause: str) -> None:
        """Hide a failure whose cause is gone."""
        if self._state.problem is not None and self._state.problem.cause == cause:
            self._set(problem=None)
