"""From the session to the window: each new state is painted once, as a view model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lesionlens.base.records.study import Study
from lesionlens.napari.controllers.editor import OutlineEditor
from lesionlens.napari.model.acts.session import ReviewSession
from lesionlens.napari.model.screen.view_model import ViewModel, view_model_of
from lesionlens.napari.model.state.events import Event
from lesionlens.napari.model.state.state import State, only_progress_differs

Paint = Callable[[ViewModel, ViewModel], object]


@dataclass(frozen=True, slots=True)
class UpdateSteps:
    """Steps of an update, in this order; all but the first take the view models before and now."""

    hang: Callable[[Study | None], object]
    """Takes the study shown before; chooses the views of a new study."""
    paint: Paint
    """Paints layers and views."""
    finish: Paint
    """Paints the panel and starts the jobs that the view model requires."""
    take: Callable[[Event], object]
    """Takes an event once everything is painted."""


class UpdateLoop:
    """Paints the states of a session one after another.

    A change made while painting is painted afterwards; events wait until everything is painted.

    Parameters
    ----------
    editor : OutlineEditor
        Follows the state between the two painting steps.
    """

    def __init__(self, session: ReviewSession, editor: OutlineEditor, steps: UpdateSteps) -> None:
        self._session, self._editor, self._steps = session, editor, steps
        self._state, self._model = session.state, ViewModel()
        self._waiting: list[Event] = []
        self._painting = False
        session.changed.connect(self._on_changed)
        session.happened.connect(self._on_happened)

    def release(self) -> None:
        """Disconnect from the session."""
        self._session.changed.disconnect(self._on_changed)
        self._session.happened.disconnect(self._on_happened)

    def _on_changed(self, _: State, __: State) -> None:
        if self._painting:
            return
        self._painting = True
        try:
            while self._state is not self._session.state:
                self._steps.hang(self._state.study)
                self._update()
        finally:
            self._painting = False
        while self._waiting:
            self._steps.take(self._waiting.pop(0))

    def _update(self) -> None:
        old, self._state = self._state, self._session.state
        before, new = self._model, self._state
        if only_progress_differs(old, new):
            self._model = before.at(new.activity)
        else:
            self._model = view_model_of(new, self._session.aside)
        self._steps.paint(before, self._model)
        self._editor.apply(old, new)
        self._steps.finish(before, self._model)

    def _on_happened(self, event: Event) -> None:
        if self._painting:
            self._waiting.append(event)
        else:
            self._steps.take(event)
