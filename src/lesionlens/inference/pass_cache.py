"""Remember what a network said to looks at the last study, so that none is taken twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lesionlens.inference import network_input
from lesionlens.records.prediction import InputPerturbation, PerturbedPrediction
from lesionlens.records.study import PreparedStudy

Floats = NDArray[np.float32]
Key = tuple[object, ...]


class PassCache:
    """The last study as a network reads it, and its answers to looks at it.

    Two looks are the same where `keep`, `mirrored` and `hidden` (by identity) are; an engine puts
    into `keep` what its network reads. A look at a study in part hidden is not remembered.

    Parameters
    ----------
    spacing_mm : float
        Edge of the cubes that the network reads.
    device : torch.device
        Where it reads them.
    """

    def __init__(self, spacing_mm: float, device: torch.device) -> None:
        self._spacing_mm, self._device = spacing_mm, device
        self._last: tuple[PreparedStudy, network_input.NetworkInput] | None = None
        self._known: dict[Key, Floats] = {}

    def of(self, prepared: PreparedStudy) -> network_input.NetworkInput:
        """Return a study as the network reads it; another one than the last is made ready."""
        if self._last is None or self._last[0] is not prepared:
            study = network_input.make_network_input(prepared, self._spacing_mm, self._device)
            self._last, self._known = (prepared, study), {}
        return self._last[1]

    def note(self, look: InputPerturbation, whole: Tensor) -> None:
        """Remember the (I, J, K) whole-tumour probability of a look that was taken elsewhere."""
        self._known[_key(look)] = whole.cpu().numpy()

    def predict_perturbed(
        self,
        prepared: PreparedStudy,
        groups: Sequence[Sequence[InputPerturbation]],
        take: Callable[[InputPerturbation], Tensor],
        watch: Callable[[int], AbstractContextManager[None]],
    ) -> PerturbedPrediction:
        """Answer each group by the mean of its looks, and take those that are not known.

        Parameters
        ----------
        prepared : PreparedStudy
            Looked at.
        groups : sequence of sequences of InputPerturbation
            Looks that vote on one answer.
        take : callable
            A look to the (I, J, K) probability, as it was seen: mirrored where the look is.
        watch : callable
            How many looks follow, to the context in which they are taken.
        """
        study = self.of(prepared)
        new = {_key(look): look for group in groups for look in group}
        new = {key: look for key, look in new.items() if key not in self._known}
        seen = dict(self._known)
        with watch(len(new)):
            for key, look in new.items():
                whole = take(look)
                seen[key] = (whole.flip(0) if look.mirrored else whole).cpu().numpy()
                if look.hidden is None:
                    self._known[key] = seen[key]
        votes = [np.mean([seen[_key(look)] for look in group], axis=0) for group in groups]
        return PerturbedPrediction(np.stack(votes), study.grid)


def _key(look: InputPerturbation) -> Key:
    return look.keep, look.mirrored, id(look.hidden)
