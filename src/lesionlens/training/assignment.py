"""The cheapest way to pair rows with columns: the Hungarian method in numpy.

SciPy has it too, but training on synthetic brains needs no more than torch and numpy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def assign(cost: NDArray[np.floating]) -> tuple[Ints, Ints]:
    """Pair every row or every column, whichever are fewer, at the least sum of costs.

    By shortest augmenting paths (Jonker and Volgenant 1987), O(n^2 m).

    Parameters
    ----------
    cost : (N, M) float
        Finite.

    Returns
    -------
    rows, columns : (min(N, M),) int64
        Pairs, by ascending row.

    Examples
    --------
    >>> rows, columns = assign(np.array([[4.0, 1.0, 3.0], [2.0, 0.0, 5.0]]))
    >>> rows.tolist(), columns.tolist()
    ([0, 1], [1, 0])
    """
    if cost.shape[0] > cost.shape[1]:
        columns, rows = assign(cost.T)
        order = np.argsort(rows)
        return rows[order], columns[order]
    owner = _owners(np.asarray(cost, np.float64))
    taken = np.flatnonzero(owner >= 0)
    order = np.argsort(owner[taken])
    return owner[taken][order], taken[order]


def _owners(cost: NDArray[np.float64]) -> Ints:
    """Row of each column, -1 where it has none; no more rows than columns."""
    count, width = cost.shape
    row_price, price = np.zeros(count), np.zeros(width)
    owner = np.full(width, -1, np.int64)
    for row in range(count):
        best, before = np.full(width, np.inf), np.full(width, -1, np.int64)
        closed = np.zeros(width, bool)
        here, last, paid = row, -1, 0.0
        path_rows = [row]
        path_paid = [0.0]
        while True:
            reach = paid + cost[here] - row_price[here] - price
            better = ~closed & (reach < best)
            best[better], before[better] = reach[better], last
            last = int(np.where(closed, np.inf, best).argmin())
            paid = float(best[last])
            closed[last] = True
            if owner[last] < 0:
                break
            here = int(owner[last])
            path_rows.append(here)
            path_paid.append(paid)
        row_price[path_rows] += paid - np.array(path_paid)
        price[closed] -= paid - best[closed]
        while last >= 0:
            previous = int(before[last])
            owner[last] = owner[previous] if previous >= 0 else row
            last = previous
    return owner
