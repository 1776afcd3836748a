"""The whole tumour by the sequences at hand: a test-time ensemble.

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


def whole_tumour_views(shown: Shown) -> tuple[Shown, ...]:
    """Return the inputs averaged for the whole tumour; without FLAIR only the study itself.

    Examples
    --------
    >>> [len(v) for v in whole_tumour_views(frozenset(MrSequence))]
    [4, 1]
    >>> [len(v) for v in whole_tumour_views(frozenset({MrSequence.FLAIR}))]
    [1]
    """
    return (shown, _FLAIR) if shown > _FLAIR else (shown,)
