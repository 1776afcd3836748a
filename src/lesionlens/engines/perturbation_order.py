"""Perturbed inputs of every explanation, in a fixed order.

An engine may predict them in advance; their order determines which inputs share a batch, and so the
last digits of the predictions.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import combinations

from lesionlens.base.labels import MrSequence
from lesionlens.base.records.prediction import InputPerturbation

Subset = frozenset[MrSequence]
OUTLINED = 0.7
"""Minimum share of the flagged voxels that the quick passes outline with all sequences; otherwise
every subset is predicted at the prediction's own voxel size (`fine_inputs`)."""


def subsets_of(present: Sequence[MrSequence]) -> list[Subset]:
    """Return all subsets of the available sequences, from empty to full.

    Examples
    --------
    >>> [len(s) for s in subsets_of([MrSequence.T1, MrSequence.FLAIR])]
    [0, 1, 1, 2]
    """
    return [
        frozenset(chosen)
        for size in range(len(present) + 1)
        for chosen in combinations(present, size)
    ]


def visible_sequences(perturbation: InputPerturbation, present: Collection[MrSequence]) -> Subset:
    """Return the available sequences that a perturbation keeps."""
    kept = zip(MrSequence, perturbation.keep, strict=True)
    return frozenset(sequence for sequence, keep in kept if keep and sequence in present)


def leave_one_out_subsets(present: Sequence[MrSequence]) -> list[Subset]:
    """Return the subsets that lack one sequence; none for a single sequence."""
    return [s for s in subsets_of(present) if len(s) == len(present) - 1 and s]


def for_uncertainty(present: Sequence[MrSequence]) -> list[InputPerturbation]:
    """Return the mirrored input, and those that lack one sequence."""
    mirrored = InputPerturbation(mirrored=True, alone=True)
    return [mirrored, *map(InputPerturbation.showing, leave_one_out_subsets(present))]


def for_relevance(present: Sequence[MrSequence]) -> list[InputPerturbation]:
    """Return the other subsets of the sequences, except all of them."""
    predicted_elsewhere = {frozenset(present), *leave_one_out_subsets(present)}
    return [
        InputPerturbation.showing(s) for s in subsets_of(present) if s not in predicted_elsewhere
    ]


def fine_inputs(present: Sequence[MrSequence]) -> list[InputPerturbation]:
    """Return the mirrored input, and every subset, at the prediction's own voxel size.

    Examples
    --------
    >>> [sum(i.keep) for i in fine_inputs([MrSequence.T1, MrSequence.FLAIR])]
    [4, 0, 1, 1, 2]
    """
    mirrored = InputPerturbation(mirrored=True, alone=True, fine=True)
    return [mirrored, *(InputPerturbation.showing(s, fine=True) for s in subsets_of(present))]


def after_quick_passes(present: Sequence[MrSequence], share: float) -> list[InputPerturbation]:
    """Return the inputs that explanations need next.

    `share` is that of the flagged voxels that the quick passes outline with all sequences.
    """
    return for_relevance(present) if share >= OUTLINED else fine_inputs(present)
