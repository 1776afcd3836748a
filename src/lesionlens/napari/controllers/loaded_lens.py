"""The `Lens` of a window: loaded in advance, and anew when the engine is changed."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from lesionlens.napari.qt.threads import prepare_rotations

if TYPE_CHECKING:
    from lesionlens.engines import EngineChoice
    from lesionlens.results.lens import Lens


class LoadedLens:
    """Keeps the `Lens` that was loaded last; any thread may ask for it."""

    def __init__(self) -> None:
        self._loading = threading.Lock()
        self._lens: Lens | None = None
        self._choice: EngineChoice | None = None

    def load(self, choice: EngineChoice) -> Lens:
        """Return the `Lens` of an engine, the kept one if it fits."""
        with self._loading:
            if self._lens is None or self._choice != choice:
                prepare_rotations()
                from lesionlens.results.lens import Lens

                self._lens, self._choice = Lens(engine=choice.load()), choice
            return self._lens

    def release_study(self) -> None:
        """Release what the engine cached of a study, if one is loaded."""
        if self._lens is not None and hasattr(self._lens.engine, "forget"):
            self._lens.engine.forget()
