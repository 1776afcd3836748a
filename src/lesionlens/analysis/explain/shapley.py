"""Contribution of each sequence: exact signed Shapley values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import factorial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.attention import SequenceEvidence

Subset = frozenset[MrSequence]
NONE = "none"
"""Key of the value without any sequence."""
MIN_LEAD = 0.05
"""Minimum lead of the largest value for its sequence to be named as deciding: a twentieth of the
scale. Smaller differences change order when the study is mirrored."""


def shapley_values(
    present: Sequence[MrSequence], value: Mapping[Subset, float]
) -> dict[str, float | None]:
    """Distribute a value among the sequences.

    Parameters
    ----------
    value : mapping of subset to float
        Value of each subset.

    Returns
    -------
    dict
        One signed value per sequence, None for an absent one, and "none" for the value without any;
        they sum to the value of all sequences.

    Notes
    -----
    Shapley 1953, equation 13: the mean marginal contribution over all orders. All subsets are used,
    so the values are exact.

    Examples
    --------
    >>> T1, FLAIR = MrSequence.T1, MrSequence.FLAIR
    >>> table = {frozenset(): 0.1, frozenset({T1}): 0.2, frozenset({FLAIR}): 0.8,
    ...          frozenset({T1, FLAIR}): 0.9}
    >>> {key: round(v, 3) for key, v in shapley_values([T1, FLAIR], table).items() if v is not None}
    {'t1': 0.1, 'flair': 0.7, 'none': 0.1}
    """
    contributions: dict[str, float | None] = {sequence.value: None for sequence in MrSequence}
    for player in present:
        contributions[player.value] = float(_contribution(player, present, value))
    contributions[NONE] = value[frozenset()]
    return contributions


def _contribution(
    player: MrSequence, present: Sequence[MrSequence], value: Mapping[Subset, Any]
) -> Any:
    """Return a sequence's Shapley value; of arrays one for each element, float64."""
    others, total = [sequence for sequence in present if sequence is not player], 0.0
    for subset in subsets_of(others):
        orders = factorial(len(subset)) * factorial(len(others) - len(subset))
        marginal = np.subtract(value[subset | {player}], value[subset], dtype=np.float64)
        total = total + orders / factorial(len(present)) * marginal
    return total


def evidence_maps(
    present: Sequence[MrSequence], probabilities: Mapping[Subset, NDArray[np.float32]], grid: Grid
) -> SequenceEvidence:
    """Return voxelwise Shapley values of the (I, J, K) probability predicted from each subset.

    Notes
    -----
    No further pass is needed: the same predictions give the candidates' Shapley values.
    """
    contributions = {
        player: _contribution(player, present, probabilities).astype(np.float32)
        for player in present
    }
    return SequenceEvidence(contributions, probabilities[frozenset()], grid)


def subsets_of(present: Sequence[MrSequence]) -> list[Subset]:
    """Return all subsets of the available sequences, from empty to full.

    Examples
    --------
    >>> [len(s) for s in subsets_of([MrSequence.T1, MrSequence.FLAIR])]
    [0, 1, 1, 2]
    """
    sizes = range(len(present) + 1)
    return [frozenset(chosen) for size in sizes for chosen in combinations(present, size)]


def deciding_sequence(relevance: Mapping[str, float | None]) -> MrSequence | None:
    """Return the sequence that contributes most; None if it leads by less than `MIN_LEAD`.

    Examples
    --------
    >>> deciding_sequence({"t1": 0.10, "t1c": 0.51, "t2": None, "flair": 0.20, "none": 0.1})
    <MrSequence.T1C: 't1c'>
    >>> deciding_sequence({"t1": 0.21, "t1c": 0.22, "t2": 0.20, "flair": None, "none": 0.3}) is None
    True
    """
    values = sorted(
        ((v, s) for s in MrSequence if (v := relevance.get(s.value)) is not None), reverse=True
    )
    if len(values) < 2 or values[0][0] - values[1][0] < MIN_LEAD:
        return None
    return values[0][1]


def is_uninformative(relevance: Mapping[str, float | None] | None) -> bool:
    """Return whether a bar chart would be uninformative: all equal, or only one sequence.

    Examples
    --------
    >>> is_uninformative({"t1": 0.2, "t1c": 0.21, "t2": 0.2, "flair": 0.19, "none": 0.1})
    True
    >>> is_uninformative({"t1": 0.2, "t1c": 0.41, "t2": 0.2, "flair": 0.19, "none": 0.1})
    False
    >>> is_uninformative({"t1": None, "t1c": None, "t2": None, "flair": 0.7, "none": 0.1})
    True
    """
    values = [v for s in MrSequence if (v := (relevance or {}).get(s.value)) is not None]
    return len(values) < 2 or max(values) - min(values) < MIN_LEAD


def deciding_text(relevance: Mapping[str, float | None] | None) -> str:
    """Return which sequence decides, in words; empty if fewer than two were compared.

    Examples
    --------
    >>> deciding_text({"t1": 0.2, "t1c": 0.21, "t2": 0.2, "flair": 0.19, "none": 0.1})
    'no single sequence decides'
    >>> deciding_text({"t1": None, "t1c": None, "t2": None, "flair": 0.7, "none": 0.1})
    ''
    """
    if relevance is None or sum(relevance.get(s.value) is not None for s in MrSequence) < 2:
        return ""
    first = deciding_sequence(relevance)
    return "no single sequence decides" if first is None else f"{first.display_name} decides most"
