"""Steps of the mouse wheel, of which touchpads send fractions."""

from __future__ import annotations

NOTCH = 120
"""Qt's angle delta of one step."""


class WheelSteps:
    """Counts whole steps; the rest is kept for the next event."""

    def __init__(self) -> None:
        self._remainder = 0.0

    def add(self, steps: float) -> int:
        """Return the whole steps after an event of this many."""
        self._remainder += steps
        whole_steps = int(self._remainder)
        self._remainder -= whole_steps
        return whole_steps
