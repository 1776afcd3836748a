"""Find ghosts: the head seen again, weaker and shifted, as flow, movement or a spike leave it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import QualityCheck

Floats = NDArray[np.float32]
GHOST = 0.025
"""Share of an image's edges that comes again at one distance (`research/poor_scans.py`)."""
_STRIDE = 4
_LEAST_LINE = 48
_NEAREST = 6  # a ghost lies at least a sixth of the line off
_BESIDE = (*range(-20, -2), *range(3, 21))
"""Neighbours that a ghost's peak must exceed: what was interpolated between thick slices comes
again at each multiple of their distance, or of twice that."""
_CLIPPED = 3.0


def check(volumes: Mapping[MrSequence, tuple[Floats, Grid]]) -> QualityCheck:
    """Report sequences that show the head again, shifted.

    Parameters
    ----------
    volumes : mapping of MrSequence to (voxels, Grid)
        As acquired, (I, J, K) float32.
    """
    strengths = {s: ghost_strength(values) for s, (values, _) in volumes.items()}
    bad = [s.words for s, strength in strengths.items() if strength > GHOST]
    if not bad:
        return QualityCheck("ghosts", True, "No sequence shows the head again beside itself.")
    return QualityCheck(
        "ghosts",
        False,
        f"Ghosts in {', '.join(bad)}: the head shows again, weaker and shifted, as flow, movement "
        "or a disturbance leave it. Candidates may be such copies: compare the sequences.",
    )


def ghost_strength(values: Floats, stride: int = _STRIDE) -> float:
    """Return how much of an image's edges comes again at one distance along an axis, 0 to 1.

    Parameters
    ----------
    values : (I, J, K) float32
        As acquired.
    stride : int
        Between the lines that are looked at.

    Notes
    -----
    The autocorrelation of the second difference along lines: anatomy's own falls off within
    centimetres and varies slowly, a copy stands out as one sharp peak. Edges against an empty
    background do not count, for the two sides of a field of view would be copies of each other.
    """
    some = (slice(None, None, stride),) * 2
    return max(_along(np.moveaxis(values, axis, -1)[some]) for axis in range(3))


def _along(values: Floats) -> float:
    lines = values.reshape(-1, values.shape[-1])
    count = lines.shape[1]
    if count < _LEAST_LINE:
        return 0.0
    seen = lines > 0
    inside = seen & np.roll(seen, 1, 1) & np.roll(seen, -1, 1)
    edges = np.where(inside, 2 * lines - np.roll(lines, 1, 1) - np.roll(lines, -1, 1), 0)
    spread = float(np.sqrt(np.mean(edges**2, where=inside))) if inside.any() else 0.0
    if spread <= 0:
        return 0.0
    edges = np.clip(edges / np.float32(spread), -_CLIPPED, _CLIPPED)
    power = (np.abs(np.fft.rfft(edges, axis=1)) ** 2).sum(axis=0, dtype=np.float64)
    again = np.fft.irfft(power, count)
    again = again / again[0]
    places = np.arange(max(count // _NEAREST, 1), count // 2 + 1)
    beside = again[(places[:, None] + np.array(_BESIDE)) % count].max(axis=1)
    return max(float((again[places] - beside).max()), 0.0)
