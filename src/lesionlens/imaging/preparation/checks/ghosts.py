"""Detect ghost artefacts: shifted, weaker copies of the head from flow, motion or spikes."""

from __future__ import annotations

import numpy as np

from lesionlens.base.geometry import Floats
from lesionlens.base.records.study import Acquired, QualityCheck, failed_check, passed_check

GHOST = 0.025
"""Minimum share of an image's edges that recurs at one distance.

From `research/preparation/poor_scans.py`.
"""
_STRIDE = 4
_MIN_LINE = 48
_MIN_SHIFT_DIVISOR = 6  # a ghost is shifted by at least a sixth of the line
_MIN_NEIGHBOUR_LAG = 3
_NEIGHBOUR_LAGS = (*range(-20, 1 - _MIN_NEIGHBOUR_LAG), *range(_MIN_NEIGHBOUR_LAG, 21))
"""Neighbours that a ghost's peak must exceed: interpolated thick slices recur at multiples of their
spacing, or of twice that.
"""
_MAX_DEVIATIONS = 3.0
_BACKGROUND_FRACTION = 0.01
"""Share of the bright end up to which a voxel is background: resampled scans are not 0 there."""


def check(volumes: Acquired) -> QualityCheck:
    """Check for sequences with ghosts."""
    strengths = {s: ghost_strength(values) for s, (values, _) in volumes.items()}
    bad = [s.display_name for s, strength in strengths.items() if strength > GHOST]
    if not bad:
        return passed_check("ghosts", "No sequence shows ghosting of the head.")
    return failed_check(
        "ghosts",
        f"Ghosting in {', '.join(bad)}: the head appears a second time, fainter and shifted, as "
        "with flow, motion or interference. Candidates may be ghosts: compare the sequences.",
    )


def ghost_strength(values: Floats, stride: int = _STRIDE) -> float:
    """Return the share of an image's edges that recurs at one distance along an axis, 0 to 1.

    Notes
    -----
    Autocorrelation of the second difference along lines: for anatomy it decays within centimetres
    and varies slowly; a copy is a sharp peak, one of opposite sign, as of periodic motion, a sharp
    dip. Edges against an empty background are excluded, because the two sides of a field of view
    would match each other.
    """
    background = _BACKGROUND_FRACTION * max(float(np.quantile(values[::4, ::4, ::4], 0.99)), 0.0)
    sampling = (slice(None, None, stride),) * 2
    return max(
        _strength_along(np.moveaxis(values, axis, -1)[sampling], background) for axis in range(3)
    )


def _strength_along(values: Floats, background: float) -> float:
    lines = values.reshape(-1, values.shape[-1])
    count = lines.shape[1]
    if count < _MIN_LINE:
        return 0.0
    tissue = lines > background
    inside = tissue & np.roll(tissue, 1, 1) & np.roll(tissue, -1, 1)
    edges = np.where(inside, 2 * lines - np.roll(lines, 1, 1) - np.roll(lines, -1, 1), 0)
    spread = float(np.sqrt(np.mean(edges**2, where=inside))) if inside.any() else 0.0
    if spread <= 0:
        return 0.0
    edges = np.clip(edges / np.float32(spread), -_MAX_DEVIATIONS, _MAX_DEVIATIONS)
    power = (np.abs(np.fft.rfft(edges, axis=1)) ** 2).sum(axis=0, dtype=np.float64)
    autocorrelation = np.fft.irfft(power, count)
    autocorrelation = autocorrelation / autocorrelation[0]
    lags = np.arange(max(count // _MIN_SHIFT_DIVISOR, 1), count // 2 + 1)
    neighbour_lags = lags[:, None] + np.array(_NEIGHBOUR_LAGS)
    # Lags l and N - l are one: near half of the line a peak would be its own neighbour.
    is_same = np.abs(count - neighbour_lags - lags[:, None]) < _MIN_NEIGHBOUR_LAG
    strength = 0.0
    for curve in (autocorrelation, -autocorrelation):
        neighbours = np.where(is_same, -np.inf, curve[neighbour_lags % count])
        strength = max(strength, float((curve[lags] - neighbours.max(axis=1)).max()))
    return strength
