"""Identify the sequence of an image by its contrast, if no name, sidecar or header does.

Its figures on real scans are in `docs/explanation/checks_measured.md`. It is a last resort,
overrides nothing, and returns no sequence if it is uncertain.
"""

from __future__ import annotations

from lesionlens.base.errors import LesionLensError
from lesionlens.base.geometry import Floats
from lesionlens.base.grid import Grid
from lesionlens.base.records.study import Series
from lesionlens.base.scan_limits import check_grid, check_voxels
from lesionlens.base.text import percent_digits
from lesionlens.imaging.preparation.checks.lost_signal import replace_nonfinite
from lesionlens.imaging.preparation.checks.tissue_contrast import (
    measure_contrast,
    probabilities,
)
from lesionlens.imaging.preparation.intensity_units import standard_units
from lesionlens.imaging.reading.sequences import UNKNOWN, Guess

SURE = 0.9
"""Minimum probability for naming a sequence."""
CONFIDENCE = 0.5
"""Maximum confidence of image-based evidence; all other evidence has more."""


def guess(values: Floats, grid: Grid) -> Guess:
    """Identify a sequence by image contrast.

    Parameters
    ----------
    values : (I, J, K) float32
        Scanner units, with or without skull.

    Returns
    -------
    Guess
        Without a sequence, but with the reason, if the contrast is ambiguous.
    """
    contrast = measure_contrast(values, grid)
    if contrast is None:
        return Guess(
            None, "nothing identifies the sequence, and no brain is found in the image", 0.0
        )
    probability_of = probabilities(contrast)
    if probability_of is None:
        reason = "nothing identifies the sequence, and the image looks like none of the four"
        return Guess(None, reason, 0.0)
    first, second, *_ = sorted(probability_of, key=probability_of.__getitem__, reverse=True)
    probability = probability_of[first]
    percent = f"{percent_digits(probability)}%"
    if probability < SURE:
        alternatives = f"{first.display_name} or {second.display_name}"
        reason = f"nothing identifies the sequence; from the image {alternatives}"
        ranked = ((first, probability), (second, probability_of[second]))
        return Guess(None, f"{reason} ({percent}), too uncertain", 0.0, ranked=ranked)
    low, high = contrast.fluid
    evidence = (
        f"the image itself, {percent}: grey matter {contrast.grey:.2f}, fluid {low:.2f} to "
        f"{high:.2f}, brightest {contrast.bright[1]:.2f} times as bright as white matter"
    )
    return Guess(first, evidence, round(CONFIDENCE * probability, 2))


def judge(series: Series) -> Guess:
    """Read a series and identify it by contrast; unknown if unreadable or not a scan."""
    label = repr(series.description)
    try:
        check_grid(series.grid, label)
        values, _ = replace_nonfinite(series.load(), series.grid, label)
        check_voxels(values, label)
    except LesionLensError:
        return UNKNOWN
    return guess(standard_units(values), series.grid)
