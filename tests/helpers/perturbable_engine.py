"""An engine whose output for a perturbed input is a function of the perturbation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.grid import Grid
from lesionlens.base.records.prediction import PerturbedPrediction
from lesionlens.base.run_context import RunContext

Answer = Callable[[tuple[bool, ...], NDArray[np.bool_]], NDArray[np.float32]]


class PerturbableEngine:
    """An engine with `predict_subsets` only.

    `answer` gives the whole-tumour probability from the kept sequences and the hidden voxels,
    `inner` that of the core and of the enhancing tumour. `asked` collects the requested
    perturbations, `sizes` the number in each request.
    """

    def __init__(self, grid: Grid, answer: Answer, inner: Answer | None = None) -> None:
        self.grid, self._answer, self._inner = grid, answer, inner
        self.asked: list[Any] = []
        self.sizes: list[int] = []

    def predict_subsets(
        self, prepared: Any, perturbations: Any, *, context: RunContext
    ) -> PerturbedPrediction:
        """Return the output for each perturbation; without hidden voxels the mask is empty."""
        self.asked += perturbations
        self.sizes.append(len(perturbations))
        empty_mask = np.zeros(self.grid.shape, bool)

        def answers_of(answer: Answer) -> NDArray[np.float32]:
            hidden = [empty_mask if one.hidden is None else one.hidden for one in perturbations]
            answers = [answer(one.keep, h) for one, h in zip(perturbations, hidden, strict=True)]
            return np.stack(answers).astype(np.float32)

        inner = None if self._inner is None else np.stack([answers_of(self._inner)] * 2, axis=1)
        return PerturbedPrediction(answers_of(self._answer), self.grid, inner)
