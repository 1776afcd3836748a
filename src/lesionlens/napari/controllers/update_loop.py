"""From the session to the window: each new state is painted once, as a view model."""

from __future__ import annotations

from collections.abc import Callable

from lesionlens.napari.controllers.actions import Actions
from lesionlens.napari.model.screen.view_model import ViewModel, view_model_of
from lesionlens.napari.model.state.events import Event
from lesionlens.napari.model.state.state import State, only_progress_differs

Paint = Callable[[ViewModel, ViewModel], object]
"""Takes the view models before and now."""


class UpdateLoop:
    """Paints the states of a session one after another.

    A change made while painting is painted afterwards; events wait until everything is painted.

    Parameters
    ----------
    acts : Actions
        Its session is painted; its editor follows the state between the two painting steps.
    paint, finish : callable
        Paint layers and views; then the panel, and start the jobs that the view model requires.
    handle : callable
        Takes an event once everything is painted.
    """

    def __init__(
        self,
        acts: Actions,
        paint: Paint,
        finish: Paint,
        handle: Callable[[Event], object],
    ) -> None:
        self._acts, self._session = acts, acts.session
        self._paint, self._finish, self._handle = paint, finish, handle
        self._state, self._view_model = self._session.state, ViewModel()
        self._pending_events: list[Event] = []
        self._painting = False
        self._session.changed.connect(self._on_changed)
        self._session.happened.connect(self._on_happened)

    def release(self) -> None:
        """Disconnect from the session."""
        self._session.changed.disconnect(self._on_changed)
        self._session.happened.disconnect(self._on_happened)

    def current_model(self) -> ViewModel:
        """Return the view model of the session's state, for a window that shows nothing yet."""
        return view_model_of(self._session.state)

    def _on_changed(self, _: State, __: State) -> None:
        if self._painting:
            return
        self._painting = True
        try:
            while self._state is not self._session.state:
                if self._session.state.study is not self._view_model.suspended_study:
                    self._acts.hang(self._state.study)  # a restored study keeps its views
                self._update()
        finally:
            self._painting = False
        while self._pending_events:
            self._handle(self._pending_events.pop(0))

    def _update(self) -> None:
        old, self._state = self._state, self._session.state
        before, new = self._view_model, self._state
        if only_progress_differs(old, new):
            self._view_model = before.at(new.activity)
        else:
            self._view_model = view_model_of(new, self._session.suspended_study)
        self._paint(before, self._view_model)
        self._acts.editor.apply(old, new)
        self._finish(before, self._view_model)

    def _on_happened(self, event: Event) -> None:
        if self._painting or self._state is not self._session.state:  # not painted yet
            self._pending_events.append(event)
        else:
            self._handle(event)
