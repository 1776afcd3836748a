"""Test-time ensemble of the whole tumour over the available sequences.

Readers outline the whole tumour on FLAIR. With all sequences as input, a sequence that does not
show a faint lesion can suppress it, so the same network also predicts from FLAIR alone, and the
probabilities are averaged. Core and enhancement are predicted from all sequences. The first pass
also averages over mirrored inputs (test-time augmentation: Wang et al. 2019,
doi:10.1016/j.neucom.2019.01.103). The network is trained on all of these inputs, so one set of
weights is sufficient.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from torch import Tensor

from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.records.prediction import (
    ClassProbabilities,
    InputPerturbation,
    PerturbedPrediction,
)
from lesionlens.engines import separable
from lesionlens.engines.network_input import NetworkInput
from lesionlens.engines.perturbation_order import Subset
from lesionlens.network.lens_net import AttentionTrace

CAVITY_NOTICE = (
    "The resection cavity is outlined where its probability is at least .5; this probability is "
    "not calibrated"
)
_FLAIR = frozenset({MrSequence.FLAIR})


def whole_tumour_views(sequences: Subset) -> tuple[Subset, ...]:
    """Return the inputs averaged for the whole tumour; only the study itself without FLAIR.

    Examples
    --------
    >>> [len(v) for v in whole_tumour_views(frozenset(MrSequence))]
    [4, 1]
    >>> [len(v) for v in whole_tumour_views(frozenset({MrSequence.FLAIR}))]
    [1]
    """
    return (sequences, _FLAIR) if sequences > _FLAIR else (sequences,)


def members_of(perturbation: InputPerturbation, visible: Subset) -> list[InputPerturbation]:
    """Return the inputs that are averaged for a perturbation that shows these sequences."""
    subsets = (visible,) if perturbation.alone else whole_tumour_views(visible)
    keeps = [InputPerturbation.showing(subset).keep for subset in subsets]
    return [replace(perturbation, keep=keep) for keep in keeps]


class PassOutput(NamedTuple):
    """Output of one pass for inference; B is 1 where it is traced."""

    logits: Tensor
    """(B, R, I, J, K), as in `network.lens_net.LensOutput`."""
    attention: Tensor | None
    """(B, R, I, J, K), sum one; None if it was not traced."""
    trace: AttentionTrace | None
    """None if it was not traced."""
    classes: Tensor | None
    """(B, 3, I, J, K) at 1/2 of the padded grid: probability of each `LesionClass`; None without
    lesion queries, and if no trace was requested."""


@dataclass(frozen=True, slots=True, eq=False)
class EnsembleOutput:
    """The first pass over the whole brain, averaged over the ensemble."""

    network_input: NetworkInput
    all_sequences: PassOutput
    """Pass with all sequences, with its trace and attention."""
    logits: Tensor
    """(3, I, J, K): mean logits of the regions."""
    cavity_probability: Tensor | None
    """(1, I, J, K): probability of a resection cavity; None from a network that outlines none."""

    @property
    def shows_tumour(self) -> bool:
        """Whether any voxel is more likely whole tumour than not."""
        return bool((self.logits[0] > 0).any())

    def share_outlined(self, quick: PerturbedPrediction, threshold: float) -> float:
        """Return the share of the whole tumour that a quick prediction outlines too.

        Parameters
        ----------
        threshold : float
            Probability from which a voxel is whole tumour.

        Returns
        -------
        float
            0 to 1; 1 without whole tumour.
        """
        grid = self.network_input.grid
        whole_tumour = self.logits[:1].sigmoid().cpu().numpy() >= threshold
        matrices = separable.matrices(quick.grid, grid, antialias=False)
        outlined = separable.apply_numpy(quick.probability, matrices) >= threshold
        return float(outlined[whole_tumour].mean()) if whole_tumour.any() else 1.0


def class_probabilities(out: PassOutput, grid: Grid) -> ClassProbabilities | None:
    """Return class probabilities from the lesion queries, if the network has them."""
    if out.classes is None:
        return None
    probabilities = np.asarray(out.classes[0].float().cpu().numpy())
    i, j, k = probabilities.shape[1:]
    return ClassProbabilities(probabilities, grid.scaled(2, (i, j, k)))


def cavity_probability(out: PassOutput, mirrored: PassOutput) -> Tensor | None:
    """Return the (1, I, J, K) mean of two passes, the second mirrored; None without that channel.

    The three regions' temperatures do not apply to it.
    """
    if out.logits.shape[1] == len(Region):
        return None
    original, reflected = (
        output.logits[0, len(Region) :].float().sigmoid() for output in (out, mirrored)
    )
    return (original + reflected.flip(1)) / 2
