"""Analyse button, progress, messages and failures."""

from __future__ import annotations

import time
from collections.abc import Callable

from qtpy.QtCore import QObject, QTimer
from qtpy.QtWidgets import QApplication, QFrame, QProgressBar, QWidget

from lesionlens.napari.controllers.actions import Actions
from lesionlens.napari.controllers.read_texts import analyse_button_text
from lesionlens.napari.model.screen.screen import Screen
from lesionlens.napari.model.state.state import Activity, Problem
from lesionlens.napari.widgets.parts import (
    ElidedLabel,
    label,
    push_button,
    row,
    set_role,
    stack,
)


class JobProgress(QObject):
    """The running job: its name, its seconds, a bar, and a button that cancels it.

    Parameters
    ----------
    cancel : callable
        Requests cancellation.
    staged : bool
        Whether the job reports stages; without them, the bar is busy until there is progress.
    """

    def __init__(self, cancel: Callable[[], object], parent: QWidget, *, staged: bool) -> None:
        super().__init__(parent)
        self._staged = staged
        self.bar, self._stage = QProgressBar(), ElidedLabel("dim")
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(6)
        self.cancel = push_button("Cancel", cancel)
        self.cancel.setAutoDefault(False)  # Return in a field of a dialog cancels nothing
        self.line = row(self._stage, self.cancel, spacing=-1)
        self.line.setStretch(0, 1)
        self._activity: Activity | None = None
        self._began = 0.0
        self._clock = QTimer(self)
        self._clock.setInterval(500)
        self._clock.timeout.connect(self._tick)

    def show_activity(self, activity: Activity | None) -> None:
        """Show a job; None hides everything."""
        running = activity is not None
        if running and self._activity is None:
            self._began = time.monotonic()
            self._clock.start()
        if not running:
            self._clock.stop()
        self._activity = activity
        for widget in (self.bar, self._stage, self.cancel):
            widget.setVisible(running)
        self._tick()

    def _tick(self) -> None:
        activity = self._activity
        if activity is None:
            return
        stage = f" · {activity.stage}" if self._staged and activity.stage else ""
        status = "Stopping…" if activity.stopping else f"{activity.name}{stage}"
        self._stage.show_text(f"{status} · {time.monotonic() - self._began:.0f} s")
        self.bar.setRange(0, 1000 if self._staged or activity.fraction else 0)
        self.bar.setValue(round(1000 * min(max(activity.fraction, 0.0), 1.0)))
        self.cancel.setEnabled(not activity.stopping)


class RunBlock(QWidget):
    """One line: the button, or the running job with progress, seconds and Cancel."""

    def __init__(self, analyse: Callable[[], object], acts: Actions) -> None:
        super().__init__()
        self._analyse = push_button("Analyse", analyse, role="primary")
        self._progress = JobProgress(acts.jobs.stop, self, staged=True)
        stack(self, self._analyse, self._progress.line, self._progress.bar, spacing=4)
        self._screen, self._controller = Screen(), acts.read_controller
        self._controller.current.changed.connect(self._show_button)

    def stops(self) -> tuple[QWidget, ...]:
        """Return the tab stops."""
        return self._analyse, self._progress.cancel

    def show_screen(self, screen: Screen) -> None:
        """Show the running job."""
        self._screen = screen
        self._show_button()
        self._progress.show_activity(screen.activity)
        self.setVisible(screen.activity is not None or bool(screen.study.title))

    def _show_button(self) -> None:
        """Highlight the button, unless the reader's own read comes first."""
        screen, closed = self._screen, analyse_button_text(self._controller)
        running, opened = screen.activity is not None, bool(screen.study.title)
        self._analyse.setVisible(not running and opened and closed != "")
        self._analyse.setEnabled(screen.can_analyse)
        self._analyse.setText(closed or ("Analyse again" if screen.analysed else "Analyse"))
        set_role(self._analyse, "" if screen.analysed or closed else "primary")


class MessageBlock(QWidget):
    """The last message, or the running job if its progress is scrolled out of view.

    The reason why an act was not done is shown as a warning.
    """

    def __init__(self) -> None:
        super().__init__()
        self._words = label("", "good", wrap=True)
        stack(self, self._words, margins=(12, 4, 12, 8))

    def show_screen(self, screen: Screen, run: RunBlock) -> None:
        """Show the last message, or the running job if `run` is not visible."""
        message = screen.message
        if not message and screen.activity and run.isVisible() and run.visibleRegion().isEmpty():
            message = f"{screen.activity.name}…"
        self._words.setText(f"⚠ {message}" if screen.declined else message)
        set_role(self._words, "warn" if screen.declined else "good")
        self.setVisible(bool(message))


class ProblemBlock(QFrame):
    """A failure: found, expected, next step."""

    def __init__(self, dismiss: Callable[[], object]) -> None:
        super().__init__()
        self.setProperty("role", "problem")
        self._title = label("", "title")
        self._observation = label("", wrap=True)
        self._expected = label("", "dim", wrap=True)
        self._next = label("", "warn", wrap=True)
        self._copy = push_button("Copy details", self._copy_details)
        tip = "Your study and your decisions are kept"
        close = push_button("Back", dismiss, tip)
        texts = (self._title, self._observation, self._expected, self._next)
        buttons = row(None, self._copy, close)
        stack(self, *texts, buttons, margins=(10, 8, 8, 8), spacing=4)
        self._problem: Problem | None = None

    def show_problem(self, problem: Problem | None) -> None:
        """Show a failure, or hide."""
        self._problem = problem
        self.setVisible(problem is not None)
        if problem is None:
            return
        self._title.setText(problem.title)
        self._observation.setText(problem.sentence)
        self._expected.setText(f"Expected {problem.expected}." if problem.expected else "")
        self._next.setText(f"{problem.next_step}." if problem.next_step else "")
        self._copy.setVisible(bool(problem.details))

    def _copy_details(self) -> None:
        if self._problem is not None:
            QApplication.clipboard().setText(self._problem.details)
