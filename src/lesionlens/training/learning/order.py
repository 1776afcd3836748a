"""In which order unread studies teach most: unsure, disputed, unlike those that were read.

Greedy: each next study is the one with the highest sum of three ranks among those that are left;
how new it is counts against what was read and what was suggested before it, so that ten alike are
not suggested in a row (uncertainty with diversity, as BADGE and core-set selection weigh it:
arXiv 1906.03671, 1708.00489).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_LEAST_SPREAD = 1e-6
_FAR = 4.0
"""Robust standard deviations at which a feature counts no further: one odd value is enough."""
_FLOOR = 0.1
"""Probability below which a voxel is not counted: over a whole brain such add up to millilitres."""
_LITTLE, _MUCH = 0.02, 0.75
"""Doubt that is not worth a word; rank from which a second reason is named."""


@dataclass(frozen=True, slots=True)
class Card:
    """What is known of a study without reading it."""

    name: str
    """Of its result."""
    unsure: float
    """Expected loss of Dice, 0 to 1: see `expected_loss`."""
    disputed: float
    """Share of what is flagged or disputed on which the views of the study disagree, 0 to 1."""
    features: Mapping[str, float]
    """How it looks, by name; what is not known is left out."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A study and why it is suggested at this place."""

    card: Card
    novelty: float
    """Distance to the nearest study read or suggested before, in robust standard deviations."""
    unlike: str
    """The feature that makes most of it; empty where nothing was read or suggested before."""
    value: float
    usual: float
    """Its value here, and there."""
    ranks: tuple[float, float, float]
    """(3,) float: of unsure, disputed and novelty among those that were left, 0 to 1."""

    @property
    def reason(self) -> str:
        """The strongest of the three, then others above three quarters of the rest, in words."""
        parts = (
            (self.ranks[0], self._doubt,
             self.card.unsure >= _LITTLE),
            (self.ranks[1], f"views disagree on {self.card.disputed:.0%} of it",
             self.card.disputed >= _LITTLE),
            (self.ranks[2], self._novel, True),
        )  # fmt: skip
        strong = [(rank, words) for rank, words, much in parts if much]
        first, *others = sorted(strong, key=lambda one: -one[0])
        return "; ".join([first[1], *(words for rank, words in others if rank > _MUCH)])

    @property
    def _doubt(self) -> str:
        if self.card.features.get("candidates") == 0:
            return "nothing is flagged, and that is unsure"
        return f"expected Dice of its outline {1 - self.card.unsure:.2f}"

    @property
    def _novel(self) -> str:
        if not self.unlike:
            return "nothing like it was read"
        return f"unlike those read: {self.unlike} {self.value:.3g}, not {self.usual:.3g}"


def expected_loss(
    probability: NDArray[np.float32], drawn: NDArray[np.bool_], voxel_ml: float
) -> float:
    """Return one less the Dice that is to be expected of an outline, were probabilities right.

    Parameters
    ----------
    probability : (I, J, K) float32
        Of the whole tumour; below `_FLOOR` it is no sign of a lesion and not counted.
    drawn : (I, J, K) bool
        What was flagged.
    voxel_ml : float
        Volume of a voxel; a millilitre is added above and below, so that nothing flagged and
        nothing expected is a loss of 0.

    Examples
    --------
    >>> sure = np.array([1.0, 0.0], np.float32)
    >>> expected_loss(sure, sure > 0.5, 1.0), expected_loss(sure / 2, sure > 0.5, 1.0)
    (0.0, 0.19999999999999996)
    """
    counted = np.where(probability >= _FLOOR, probability, 0)
    expected = float(counted.sum(dtype=np.float64)) * voxel_ml
    flagged = np.count_nonzero(drawn) * voxel_ml
    both = float(counted[drawn].sum(dtype=np.float64)) * voxel_ml
    return float(1.0 - (2.0 * both + 1.0) / (expected + flagged + 1.0))


@dataclass(frozen=True, slots=True)
class _FeatureTable:
    """What is known of studies, alike in scale."""

    names: Sequence[str]
    """Of the columns."""
    values: NDArray[np.float64]
    """(studies, features), in robust standard deviations; unknown ones at the median."""
    spread: NDArray[np.float64]
    """(features,): one standard deviation."""


def order(unread: Sequence[Card], read: Sequence[Card]) -> tuple[Suggestion, ...]:
    """Order unread studies by what reading them would teach.

    Parameters
    ----------
    unread, read : sequence of Card
        The latter were read before: nothing like them is new.
    """
    if not unread:
        return ()
    table = _table((*unread, *read))
    known = list(range(len(unread), len(unread) + len(read)))
    left, found = list(range(len(unread))), []
    while left:
        novelty, nearest = _novelty(table.values, left, known)
        ranks = np.stack([
            _ranks(np.array([unread[n].unsure for n in left])),
            _ranks(np.array([unread[n].disputed for n in left])),
            _ranks(novelty),
        ])  # fmt: skip
        at = int(ranks.sum(axis=0).argmax())
        pick = left.pop(at)
        found.append(
            _suggestion(unread[pick], table, pick, nearest[at], float(novelty[at]), ranks[:, at])
        )
        known.append(pick)
    return tuple(found)


def _suggestion(
    card: Card,
    table: _FeatureTable,
    pick: int,
    nearest: int | None,
    novelty: float,
    ranks: NDArray[np.float64],
) -> Suggestion:
    three = float(ranks[0]), float(ranks[1]), float(ranks[2])
    if nearest is None or not table.names:
        return Suggestion(card, novelty, "", 0.0, 0.0, three)
    gap = table.values[pick] - table.values[nearest]
    most = int(np.abs(gap).argmax())
    name = table.names[most]
    if name not in card.features:
        return Suggestion(card, novelty, "", 0.0, 0.0, three)
    value = card.features[name]
    return Suggestion(card, novelty, name, value, value - gap[most] * table.spread[most], three)


def _table(cards: Sequence[Card]) -> _FeatureTable:
    names = sorted({name for card in cards for name in card.features})
    raw = np.array([[card.features.get(name, np.nan) for name in names] for card in cards])
    if not names:
        return _FeatureTable(names, np.zeros((len(cards), 0)), np.zeros(0))
    middle = np.nanmedian(raw, axis=0)
    spread = 1.4826 * np.nanmedian(np.abs(raw - middle), axis=0)
    plain = np.nanstd(raw, axis=0)
    spread = np.where(spread > _LEAST_SPREAD, spread, np.maximum(plain, _LEAST_SPREAD))
    scaled = np.where(np.isnan(raw), 0.0, (raw - middle) / spread)
    return _FeatureTable(names, np.clip(scaled, -_FAR, _FAR), spread)


def _novelty(
    table: NDArray[np.float64], left: Sequence[int], known: Sequence[int]
) -> tuple[NDArray[np.float64], list[int | None]]:
    """Return the distance of each to its nearest known one; to the middle where none is known."""
    width = max(table.shape[1], 1)
    if not known:
        far = np.sqrt((table[list(left)] ** 2).sum(axis=1) / width)
        return far, [None] * len(left)
    gaps = table[list(left), None] - table[None, list(known)]
    far = np.sqrt((gaps**2).sum(axis=2) / width)
    return far.min(axis=1), [known[int(n)] for n in far.argmin(axis=1)]


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 0 for the lowest to 1 for the highest, equal ones alike; all 0 where none differs."""
    kinds, place = np.unique(values, return_inverse=True)
    return np.asarray(place / max(len(kinds) - 1, 1), np.float64)
