"""Several views of one study vote: with all sequences, and as a reader looks at fewer of them.

Readers draw the whole tumour on FLAIR and judge the core and what enhances on T1c. A network that
sees everything at once can be talked out of a faint lesion by a sequence in which it does not
show. So the same network also looks at T1c and FLAIR alone, and for the whole tumour at FLAIR
alone; the probabilities are averaged. Each view is an input that the network is trained on, so no
view needs weights of its own.
"""

from __future__ import annotations

from lesionlens.base.labels import MrSequence

Shown = frozenset[MrSequence]
"""The sequences of one view."""

_T1C_FLAIR = frozenset({MrSequence.T1C, MrSequence.FLAIR})


def _distinct(views: list[Shown]) -> tuple[Shown, ...]:
    return tuple(dict.fromkeys(views))


def of_whole_tumour(shown: Shown) -> tuple[Shown, ...]:
    """Return the views that vote on the whole tumour; without FLAIR only the study itself.

    Examples
    --------
    >>> [len(v) for v in of_whole_tumour(frozenset({MrSequence.T2, MrSequence.FLAIR}))]
    [2, 1]
    >>> [len(v) for v in of_whole_tumour(frozenset(MrSequence))]
    [4, 2, 1]
    """
    if MrSequence.FLAIR not in shown:
        return (shown,)
    return _distinct([shown, shown & _T1C_FLAIR, frozenset({MrSequence.FLAIR})])


def of_core(shown: Shown) -> tuple[Shown, ...]:
    """Return the views that vote on core and enhancement; all of them hold T1c and FLAIR.

    Examples
    --------
    >>> [len(v) for v in of_core(frozenset(MrSequence))]
    [4, 2]
    >>> [len(v) for v in of_core(frozenset({MrSequence.T1, MrSequence.FLAIR}))]
    [2]
    """
    if not shown >= _T1C_FLAIR:
        return (shown,)
    return _distinct([shown, _T1C_FLAIR])


def of_glance(shown: Shown) -> tuple[Shown, ...]:
    """Return the views of the quick look: the study itself, and FLAIR alone.

    Examples
    --------
    >>> [len(v) for v in of_glance(frozenset(MrSequence))]
    [4, 1]
    """
    if MrSequence.FLAIR not in shown:
        return (shown,)
    return _distinct([shown, frozenset({MrSequence.FLAIR})])
