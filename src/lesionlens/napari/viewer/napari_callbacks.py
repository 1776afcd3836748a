"""napari's own callbacks of the mouse, which the window replaces while it is open."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class ReplacedCallbacks:
    """napari's callbacks of one name in a list of callbacks, replaced by one of the window's.

    Parameters
    ----------
    callbacks : list of callable
        A viewer's callbacks of one kind, such as `mouse_wheel_callbacks`; changed in place.
    name : str
        `__name__` of napari's callbacks.
    own : callable
        The window's callback.
    """

    def __init__(
        self, callbacks: list[Callable[..., Any]], name: str, own: Callable[..., Any]
    ) -> None:
        self._callbacks, self._own = callbacks, own
        self.napari_callbacks = [c for c in callbacks if getattr(c, "__name__", "") == name]
        for callback in self.napari_callbacks:
            callbacks.remove(callback)
        callbacks.append(own)

    def restore(self) -> None:
        """Remove the window's callback, and add napari's again."""
        if self._own in self._callbacks:
            self._callbacks.remove(self._own)
            self._callbacks.extend(self.napari_callbacks)
