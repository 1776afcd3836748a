"""Paired comparison of two sets of results on the same cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lesionlens.analysis.evaluation.summary import Interval, interval

Figures = Mapping[str, float | None]
MIN_CASES = 5
"""With fewer cases nothing is concluded, because bootstrap intervals are too narrow."""


@dataclass(frozen=True, slots=True)
class PairedFigure:
    """One metric before and after a change."""

    key: str
    """The metric."""
    cases: int
    """Number of cases with the metric on both sides."""
    before: float
    after: float
    """Means over those cases."""
    interval: Interval | None
    """Bootstrap interval of the mean difference (after - before) over cases; None for fewer than
    two.
    """

    @property
    def difference(self) -> float:
        """Mean of after - before."""
        return self.after - self.before

    def verdict(self, better: int) -> int:
        """Return 1 if the whole interval is better, -1 if worse, 0 if neither or too few cases.

        `better` is 1 if higher is better, -1 if lower is better.
        """
        if self.interval is None or self.cases < MIN_CASES:
            return 0
        low, high = sorted(better * end for end in self.interval)
        return 1 if low > 0 else -1 if high < 0 else 0


def paired(
    before: Sequence[Figures], after: Sequence[Figures], keys: Sequence[str]
) -> tuple[PairedFigure, ...]:
    """Compare figures of the same cases in the same order.

    Examples
    --------
    >>> (figure,) = paired([{"wt": 0.5}] * 5, [{"wt": 0.6}] * 5, ["wt", "hd95"])
    >>> round(figure.difference, 6), figure.verdict(1), figure.verdict(-1)
    (0.1, 1, -1)
    """
    figures = []
    for key in keys:
        pairs = [
            (a, b)
            for first, second in zip(before, after, strict=True)
            if (a := first.get(key)) is not None and (b := second.get(key)) is not None
        ]
        if pairs:
            table = np.asarray(pairs, float)
            bounds = interval((table[:, 1] - table[:, 0]).tolist())
            mean = table.mean(axis=0)
            figures.append(PairedFigure(key, len(pairs), float(mean[0]), float(mean[1]), bounds))
    return tuple(figures)
