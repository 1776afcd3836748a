"""An engine that answers a perturbed input by a function of what is kept and what is hidden."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.grid import Grid
from lesionlens.base.records.prediction import PerturbedPrediction
from lesionlens.base.run_context import RunContext

Answer = Callable[[tuple[bool, ...], NDArray[np.bool_]], NDArray[np.float32]]


class Perturbable:
    """Has `Capability.PERTURB` and nothing else.

    `inner` answers for the core and the enhancing tumour alike. `asked` lists the perturbations it
    was asked, `sizes` how many at a time.
    """

    def __init__(self, grid: Grid, answer: Answer, inner: Answer | None = None) -> None:
        self.grid, self._answer, self._inner = grid, answer, inner
        self.asked: list[Any] = []
        self.sizes: list[int] = []

    def perturbation_grid(self, prepared: Any) -> Grid:
        """Return the grid it was given."""
        return self.grid

    def predict_perturbed(
        self, prepared: Any, perturbations: Any, *, context: RunContext
    ) -> PerturbedPrediction:
        """Answer each, where nothing is hidden with an empty mask."""
        self.asked += perturbations
        self.sizes.append(len(perturbations))
        nothing = np.zeros(self.grid.shape, bool)

        def by(answer: Answer) -> NDArray[np.float32]:
            hidden = [nothing if one.hidden is None else one.hidden for one in perturbations]
            found = [answer(one.keep, h) for one, h in zip(perturbations, hidden, strict=True)]
            return np.stack(found).astype(np.float32)

        inner = None if self._inner is None else np.stack([by(self._inner)] * 2, axis=1)
        return PerturbedPrediction(by(self._answer), self.grid, inner)
