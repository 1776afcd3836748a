"""Test-time ensemble of the whole tumour over the available sequences.

Readers outline the whole tumour on FLAIR. With all sequences as input, a sequence that does not
show a faint lesion can suppress it, so the same network also predicts from FLAIR alone, and the
probabilities are averaged. Core and enhancement are predicted from all sequences. The first pass
also averages over mirrored inputs (test-time augmentation: Wang et al. 2019,
doi:10.1016/j.neucom.2019.01.103). The network is trained on all of these inputs, so one set of
weights is sufficient.
"""

from __future__ import annotations

from collections.abc import Sequence

from lesionlens.base.labels import MrSequence
from lesionlens.base.records.prediction import InputPerturbation
from lesionlens.engines.perturbation_order import Subset

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


def subset_of(keep: Sequence[bool]) -> Subset:
    """Return the sequences of the (4,) flags."""
    return frozenset(s for s, is_kept in zip(MrSequence, keep, strict=True) if is_kept)


def visible_sequences(perturbation: InputPerturbation, present: Sequence[bool]) -> Subset:
    """Return the available sequences that a perturbation keeps."""
    return subset_of(present) & subset_of(perturbation.keep)
