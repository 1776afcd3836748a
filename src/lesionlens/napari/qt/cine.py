"""Cine: plays the slices by a timer."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import QObject, QTimer

SLICES_PER_SECOND = 12


class Cine:
    """Calls `step` several times a second while running.

    Parameters
    ----------
    step : callable
        Goes to the next slice.
    """

    def __init__(self, step: Callable[[], None], parent: QObject) -> None:
        self._timer = QTimer(parent)
        self._timer.setInterval(1000 // SLICES_PER_SECOND)
        self._timer.timeout.connect(step)

    def run(self, wanted: bool) -> None:
        """Start or stop."""
        if wanted is not bool(self._timer.isActive()):
            (self._timer.start if wanted else self._timer.stop)()
