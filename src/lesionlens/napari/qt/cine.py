"""Slices one after the other, by a timer."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import QObject, QTimer

A_SECOND = 12
"""Slices."""


class Cine:
    """Calls `step` some times a second while it runs.

    Parameters
    ----------
    step : callable
        Goes one slice on.
    parent : QObject
        It ends with this.
    """

    def __init__(self, step: Callable[[], None], parent: QObject) -> None:
        self._timer = QTimer(parent)
        self._timer.setInterval(1000 // A_SECOND)
        self._timer.timeout.connect(step)

    def run(self, wanted: bool) -> None:
        """Run, or stand still."""
        if wanted is not bool(self._timer.isActive()):
            (self._timer.start if wanted else self._timer.stop)()
