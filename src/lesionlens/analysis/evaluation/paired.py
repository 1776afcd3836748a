"""Two sets of results on the same cases: what changed, with an interval over the cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lesionlens.analysis.evaluation.summary import Interval, interval

Figures = Mapping[str, float | None]
LEAST_CASES = 5
"""Fewer cases say nothing surely, whatever their bootstrap interval: it cannot be wide enough."""


@dataclass(frozen=True, slots=True)
class PairedFigure:
    """One metric before and after."""

    key: str
    """The metric."""
    cases: int
    """Where it applies on both sides."""
    before: float
    after: float
    """Means over those cases."""
    interval: Interval | None
    """Of the mean difference, after less before, by bootstrap over cases; None of fewer than two.
    """

    @property
    def difference(self) -> float:
        """Mean of after less before."""
        return self.after - self.before

    def surely(self, better: int) -> int:
        """Return 1 where the whole interval says better, -1 worse, 0 neither, or too few cases.

        Parameters
        ----------
        better : int
            1 where more is better, -1 where less is.
        """
        if self.interval is None or self.cases < LEAST_CASES:
            return 0
        low, high = sorted(better * end for end in self.interval)
        return 1 if low > 0 else -1 if high < 0 else 0


def paired(
    before: Sequence[Figures], after: Sequence[Figures], keys: Sequence[str]
) -> tuple[PairedFigure, ...]:
    """Compare figures of the same cases, in the same order, case by case.

    Examples
    --------
    >>> (found,) = paired([{"wt": 0.5}] * 5, [{"wt": 0.6}] * 5, ["wt", "hd95"])
    >>> round(found.difference, 6), found.surely(1), found.surely(-1)
    (0.1, 1, -1)
    """
    found = []
    for key in keys:
        pairs = [
            (a, b)
            for one, other in zip(before, after, strict=True)
            if (a := one.get(key)) is not None and (b := other.get(key)) is not None
        ]
        if pairs:
            table = np.asarray(pairs, float)
            spread = interval((table[:, 1] - table[:, 0]).tolist())
            mean = table.mean(axis=0)
            found.append(PairedFigure(key, len(pairs), float(mean[0]), float(mean[1]), spread))
    return tuple(found)
