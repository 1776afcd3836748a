"""Analyse button, progress, messages and failures."""

from __future__ import annotations

import time

from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QApplication, QFrame, QWidget

from lesionlens.napari.model.screen.screen import Screen
from lesionlens.napari.model.state.state import Problem
from lesionlens.napari.widgets.parts import (
    ElidedLabel,
    label,
    progress_bar,
    push_button,
    row,
    set_role,
    stack,
)


class RunBlock(QWidget):
    """One line: the button, or the running job with progress, seconds and Cancel."""

    analyse = Signal()
    cancel = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._analyse = push_button("Analyse", self.analyse.emit, role="primary")
        self._bar, self._stage = progress_bar(), ElidedLabel("dim")
        self._cancel = push_button("Cancel", self.cancel.emit)
        line = row(self._stage, self._cancel, spacing=-1)
        line.setStretch(0, 1)
        stack(self, self._analyse, line, self._bar, spacing=4)
        self._began = 0.0
        self._unaided_text: str | None = None
        self._screen = Screen()
        self._clock = QTimer(self)
        self._clock.setInterval(500)
        self._clock.timeout.connect(self._tick)

    def stops(self) -> tuple[QWidget, ...]:
        """Return the tab stops."""
        return self._analyse, self._cancel

    def show_screen(self, screen: Screen) -> None:
        """Show the running job."""
        running = screen.activity is not None
        if running and self._screen.activity is None:
            self._began = time.monotonic()
            self._clock.start()
        if not running:
            self._clock.stop()
        self._screen = screen
        self._show_button()
        for widget in (self._bar, self._stage, self._cancel):
            widget.setVisible(running)
        self._tick()
        self.setVisible(running or bool(screen.study.title))

    def show_closed(self, text: str | None) -> None:
        """Set the text of the button during an unaided read.

        Empty: no analysis is needed; None: no unaided read.
        """
        if text != self._unaided_text:
            self._unaided_text = text
            self._show_button()

    def _show_button(self) -> None:
        """Highlight the button, unless the reader's own read comes first."""
        screen, closed = self._screen, self._unaided_text
        running, opened = screen.activity is not None, bool(screen.study.title)
        self._analyse.setVisible(not running and opened and closed != "")
        self._analyse.setEnabled(screen.can_analyse)
        self._analyse.setText(closed or ("Analyse again" if screen.analysed else "Analyse"))
        set_role(self._analyse, "" if screen.analysed or closed else "primary")

    def _tick(self) -> None:
        activity = self._screen.activity
        if activity is None:
            return
        seconds = time.monotonic() - self._began
        status = "Stopping…" if activity.stopping else f"{activity.name} · {activity.stage}"
        self._stage.show_text(f"{status.removesuffix(' · ')} · {seconds:.0f} s")
        self._bar.setValue(round(1000 * min(max(activity.fraction, 0.0), 1.0)))
        self._cancel.setEnabled(not activity.stopping)


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

    dismissed = Signal()
    local_analysis_requested = Signal()
    """Analyse on this machine, after a failure of the server."""

    def __init__(self) -> None:
        super().__init__()
        self.setProperty("role", "problem")
        self._title = label("", "title")
        self._observation = label("", wrap=True)
        self._expected = label("", "dim", wrap=True)
        self._next = label("", "warn", wrap=True)
        self._copy = push_button("Copy details", self._copy_details)
        tip = "Your study and your decisions are kept"
        close = push_button("Back", self.dismissed.emit, tip)
        self._analyse_locally = push_button(
            "Analyse on this machine", self.local_analysis_requested.emit
        )
        texts = (self._title, self._observation, self._expected, self._next)
        buttons = row(None, self._analyse_locally, self._copy, close)
        stack(self, *texts, buttons, margins=(10, 8, 8, 8), spacing=4)
        self._problem: Problem | None = None

    def show_problem(self, problem: Problem | None) -> None:
        """Show a failure, or hide."""
        self._problem = problem
        self.setVisible(problem is not None)
        if problem is None:
            return
        self._title.setText(problem.title)
        self._observation.setText(f"Found {problem.found}.")
        self._expected.setText(f"Expected {problem.expected}." if problem.expected else "")
        self._next.setText(f"{problem.next_step}." if problem.next_step else "")
        self._copy.setVisible(bool(problem.details))
        self._analyse_locally.setVisible(problem.of_server)

    def _copy_details(self) -> None:
        if self._problem is not None:
            QApplication.clipboard().setText(self._problem.details)
