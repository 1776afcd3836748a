"""Fit what each sequence looks like (`preparation/exchanged_names.npz`), and judge it.

    python research/fit_exchanged_names.py FOLDER...   # of real studies, one a folder

Real studies and synthetic brains are measured as they are named. Then every pair of names is
exchanged in every subset of the sequences, each real case left out of the fit it is judged by.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np

from lesionlens.base.labels import MrSequence
from lesionlens.base.run_context import RunContext
from lesionlens.imaging.preparation import exchanged_names as names
from lesionlens.imaging.preparation.prepare import PrepareOptions, prepare
from lesionlens.imaging.reading.readers import open_study
from lesionlens.network.synth.draw import DrawConfig, draw

FIRST_SEED, BRAINS = 500, 30
SYNTHETIC_WEIGHT = 0.3
SHRINK = 0.5
"""Towards a covariance without correlations."""
KEPT = Path(names.__file__).with_name("exchanged_names.npz")


Assignment = dict[MrSequence, MrSequence]


def fit(cases: list[names.Measured], weights: list[float]) -> names.Model:
    """Return names, means and shrunken covariance of the features of measured cases."""
    rows = [case.features({s: s for s in case.own}) for case in cases]
    keys = sorted({key for row in rows for key in row})
    table = np.array([[row.get(key, np.nan) for key in keys] for row in rows])
    each = np.where(np.isnan(table), 0.0, np.array(weights)[:, None])
    means = np.nansum(table * each, axis=0) / each.sum(axis=0)
    apart = np.where(np.isnan(table), 0.0, table - means)
    full = (apart * np.array(weights)[:, None]).T @ apart / np.sum(weights)
    return keys, means, (1 - SHRINK) * full + SHRINK * np.diag(np.diag(full))


def judge(case: names.Measured, model: names.Model, counts: Counter[tuple[int, str]]) -> None:
    """Count what is found of every exchange in every subset, and what is found without one."""
    for size in range(2, len(case.own) + 1):
        for subset in combinations(case.own, size):
            given = {s: s for s in subset}
            counts[size, "as named"] += 1
            counts[size, "false"] += _found(case, given, model) is not None
            for a, b in combinations(subset, 2):
                pair = _found(case, {**given, a: b, b: a}, model)
                counts[size, "exchanged"] += 1
                counts[size, "found"] += pair is not None
                counts[size, "another pair named"] += pair not in (None, (a, b))


def _found(
    case: names.Measured, given: Assignment, model: names.Model
) -> tuple[MrSequence, MrSequence] | None:
    pair, ratio, likelihood = names.best_exchange(case, given, model)
    return pair if names.is_convincing(ratio, likelihood, len(case.features(given))) else None


def _real(study: Path) -> names.Measured | None:
    found = prepare(open_study(study), RunContext(), PrepareOptions(sides=False))
    there = {s: found.channels[i] for i, s in enumerate(MrSequence) if found.present[i]}
    return names.measure(there, found.brain) if len(there) > 1 else None


def _drawn(seed: int) -> names.Measured:
    batch = draw(DrawConfig(), [seed])
    images = dict(zip(MrSequence, batch.channels[0].numpy(), strict=True))
    found = names.measure(images, batch.brain[0].numpy())
    if found is None:
        raise ValueError(seed)
    return found


def main() -> None:
    """Fit, keep and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    studies = sorted(p for f in parser.parse_args().folders for p in f.iterdir() if p.is_dir())
    real = [found for found in map(_real, studies) if found is not None]
    drawn = [_drawn(seed) for seed in range(FIRST_SEED, FIRST_SEED + BRAINS)]
    weights = [1.0] * len(real) + [SYNTHETIC_WEIGHT] * len(drawn)
    model = fit([*real, *drawn], weights)
    np.savez(KEPT, names=np.array(model[0]), means=model[1], covariance=model[2])
    for title, cases, first in (("real", real, 0), ("synthetic", drawn, len(real))):
        counts: Counter[tuple[int, str]] = Counter()
        for index, case in enumerate(cases):
            rest = [i for i in range(len(real) + len(drawn)) if i != first + index]
            judge(case, fit([[*real, *drawn][i] for i in rest], [weights[i] for i in rest]), counts)
        sys.stdout.write(f"{title}: {dict(sorted(counts.items(), key=str))}\n")


if __name__ == "__main__":
    main()
