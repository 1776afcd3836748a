"""Measure how often the check for ghosts finds periodic motion, as of breathing or tremor.

    python -m research.preparation.periodic_motion CASE...

Heads of voxels of 1 mm move to and fro along an axis while their k-space is acquired, each
sequence with a phase of its own. Unmoved scans are measured too, with random borders as well.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from itertools import product
from pathlib import Path

import numpy as np

from lesionlens.imaging.preparation.checks.ghosts import GHOST, ghost_strength
from lesionlens.imaging.reading.readers import open_study

AMPLITUDES_MM = (2.0, 4.0)
PERIODS = (4, 8, 12, 20)
"""Lines of k-space in one period."""
AXES = (1, 0)
BORDER_VOX = 12
_STRIDE = 4
"""Every fourth line is measured, as in the check."""


def move_periodically(
    values: np.ndarray, mm: float, period: int, phase: float, axis: int
) -> np.ndarray:
    """Return a stripped head that moved by an amplitude in mm, once in `period` lines."""
    frequency = np.fft.fftfreq(values.shape[axis])
    line = np.rint(frequency * values.shape[axis])
    shift_mm = mm * np.sin(2 * np.pi * line / period + phase)
    shape = [-1 if a == axis else 1 for a in range(3)]
    factor = np.exp(-2j * np.pi * frequency * shift_mm).reshape(shape)
    image = np.abs(np.fft.ifft(np.fft.fft(values, axis=axis) * factor, axis=axis))
    return (image * (values > 0)).astype(np.float32)


def with_random_borders(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Cut a scan to the head, give or take `BORDER_VOX` on each side."""
    inside = np.argwhere(values > 0.05 * values.max())
    low = np.maximum(inside.min(axis=0) + rng.integers(-BORDER_VOX, BORDER_VOX + 1, 3), 0)
    high = inside.max(axis=0) + 1 + rng.integers(-BORDER_VOX, BORDER_VOX + 1, 3)
    i, j, k = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return values[i, j, k]


def main() -> None:
    """Measure every sequence of the cases; print a line for each fault."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("cases", nargs="+", type=Path)
    rng = np.random.default_rng(1)
    found: dict[str, list[list[bool]]] = defaultdict(list)
    for case in parser.parse_args().cases:
        of_case: dict[str, list[bool]] = defaultdict(list)
        for series in open_study(case).series.values():
            values = series.load()
            of_case["none"].append(ghost_strength(values) > GHOST)
            cut = with_random_borders(values, rng)
            of_case["none, random borders"].append(ghost_strength(cut) > GHOST)
            for axis, mm, period in product(AXES, AMPLITUDES_MM, PERIODS):
                step = tuple(slice(None, None, None if a == axis else _STRIDE) for a in range(3))
                phase = float(rng.uniform(0, 2 * np.pi))
                moved = move_periodically(values[step], mm, period, phase, axis)
                name = f"{mm:.0f} mm along axis {axis}, {period} lines"
                of_case[name].append(ghost_strength(moved, 1) > GHOST)
        for name, outcomes in of_case.items():
            found[name].append(outcomes)
    for name, studies in found.items():
        scans = [outcome for outcomes in studies for outcome in outcomes]
        any_found = sum(map(any, studies))
        print(f"{name}: {sum(scans)} of {len(scans)} scans, {any_found} of {len(studies)} studies")


if __name__ == "__main__":
    main()
