"""Cache of a network's input and predictions for the last study."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from lesionlens.base.geometry import Floats
from lesionlens.base.records.prediction import InputPerturbation, PerturbedPrediction
from lesionlens.base.records.study import PreparedStudy
from lesionlens.engines.network_input import NetworkInput, make_network_input

Key = tuple[object, ...]


class PassCache:
    """Input arrays of the last study, and its predictions for perturbed inputs.

    Perturbations are equal if `keep`, `mirrored` and `hidden` (by identity) are; engines restrict
    `keep` to the sequences that their network reads. Predictions with occluded voxels are not
    cached. The input is on `device`; `robust` is as for `network.normalise.zscore`.
    """

    def __init__(self, spacing_mm: float, device: torch.device, *, robust: bool = True) -> None:
        self._spacing_mm, self._device, self._robust = spacing_mm, device, robust
        self._last: NetworkInput | None = None
        self._predictions: dict[Key, Floats] = {}

    def input_for(self, prepared: PreparedStudy) -> NetworkInput:
        """Return the network input of a study; computed if it is not the last study."""
        if self._last is None or self._last.frame.prepared is not prepared:
            self._last = make_network_input(
                prepared, self._spacing_mm, self._device, robust=self._robust
            )
            self._predictions = {}
        return self._last

    def store(self, perturbation: InputPerturbation, probability: Tensor) -> None:
        """Store the (R, I, J, K) probability of an input that was predicted elsewhere."""
        self._predictions[_key(perturbation)] = probability.cpu().numpy()

    def predict_subsets(
        self,
        prepared: PreparedStudy,
        groups: Sequence[Sequence[InputPerturbation]],
        predict: Callable[[Sequence[InputPerturbation]], Iterable[Tensor]],
    ) -> PerturbedPrediction:
        """Return for each group the mean prediction of its inputs; missing ones are predicted.

        Core and enhancing tumour are returned if each group has one input.

        Parameters
        ----------
        groups : sequence of sequences of InputPerturbation
            Inputs whose predictions are averaged.
        predict : callable
            Yields for each input its (R, I, J, K) probability, whole tumour first, mirrored if the
            input is. Results before a cancellation are cached.
        """
        network_input = self.input_for(prepared)
        inputs = {_key(perturbation): perturbation for group in groups for perturbation in group}
        missing = {key: p for key, p in inputs.items() if key not in self._predictions}
        predictions = dict(self._predictions)
        if missing:
            for (key, perturbation), probability in zip(
                missing.items(), predict(list(missing.values())), strict=True
            ):
                unmirrored = probability.flip(1) if perturbation.mirrored else probability
                predictions[key] = unmirrored.cpu().numpy()
                if perturbation.hidden is None:
                    self._predictions[key] = predictions[key]
        means = [
            np.mean([predictions[_key(perturbation)][0] for perturbation in group], axis=0)
            for group in groups
        ]
        inner = None
        if all(len(group) == 1 and group[0].alone for group in groups):
            inner = np.stack([predictions[_key(group[0])][1:] for group in groups])
        has_inner = inner is not None and inner.shape[1] > 0
        grid = network_input.grid
        return PerturbedPrediction(np.stack(means), grid, inner if has_inner else None)


def _key(perturbation: InputPerturbation) -> Key:
    return perturbation.keep, perturbation.mirrored, id(perturbation.hidden)
