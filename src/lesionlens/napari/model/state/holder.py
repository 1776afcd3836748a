"""The one mutable object of the window: it holds a frozen `State`, and says when it changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from psygnal import Signal

from lesionlens.base.records.findings import Candidate
from lesionlens.napari.model.choices.choices import Choices
from lesionlens.napari.model.state.state import State, listed


class StateHolder:
    """Holds the state; an act that does nothing emits nothing."""

    changed = Signal(State, State)
    """Old state, new state."""
    happened = Signal(object)
    """An `Event`: what is to be done once, beside what the state says."""

    def __init__(self, choices: Choices) -> None:
        self._state = State(choices=choices)

    @property
    def state(self) -> State:
        """The state now."""
        return self._state

    def _set(self, **changes: Any) -> None:
        old = self._state
        if all(getattr(old, name) is value for name, value in changes.items()):
            return
        self._state = replace(old, **changes)
        self.changed.emit(old, self._state)

    def _choose(self, **changes: Any) -> None:
        """Change what is chosen; what was answered to the act before goes."""
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
        """Report something beside what runs."""
        self._set(message=message)

    def clear_problem(self, cause: str) -> None:
        """Take a failure off the screen whose cause has gone."""
        if self._state.problem is not None and self._state.problem.cause == cause:
            self._set(problem=None)
