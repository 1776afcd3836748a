"""The whole tumour by the sequences at hand: a test-time ensemble, and where its outline is cut.

Readers draw the whole tumour on FLAIR. A network that sees everything at once can be talked out of
a faint lesion by a sequence in which it does not show, so the same network also reads FLAIR
alone, and the probabilities are averaged. Core and enhancement are judged with all sequences.
The first pass shows them mirrored as well and averages, which errs less than either (test-time
augmentation: Wang et al. 2019, doi:10.1016/j.neucom.2019.01.103). Each input is of a kind that the
network is trained on, so none needs weights of its own.
"""

from __future__ import annotations

from lesionlens.base.labels import MrSequence

Shown = frozenset[MrSequence]
"""The sequences of one input."""

_FLAIR = frozenset({MrSequence.FLAIR})
_WATER = frozenset({MrSequence.FLAIR, MrSequence.T2})
_CERTAIN = 0.8


def of_whole_tumour(shown: Shown) -> tuple[Shown, ...]:
    """Return the inputs averaged for the whole tumour; without FLAIR only the study itself.

    Examples
    --------
    >>> [len(v) for v in of_whole_tumour(frozenset(MrSequence))]
    [4, 1]
    >>> [len(v) for v in of_whole_tumour(frozenset({MrSequence.FLAIR}))]
    [1]
    """
    return (shown, _FLAIR) if shown > _FLAIR else (shown,)


def least_of_whole_tumour(shown: Shown) -> float:
    """Return the lowest probability that is drawn as whole tumour; 0 for what the weights say.

    Without FLAIR and T2 oedema is guessed from what lies round a core. The guess differs from
    what is visible by its probability, so only what is nearly certain is drawn.

    Examples
    --------
    >>> least_of_whole_tumour(frozenset({MrSequence.T1C}))
    0.8
    >>> least_of_whole_tumour(frozenset({MrSequence.T1C, MrSequence.T2}))
    0.0
    """
    return 0.0 if shown & _WATER else _CERTAIN
