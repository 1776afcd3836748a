"""Additional images for display: other series of the study, and T1c - T1.

They are for display only: no network reads them and nothing is measured on them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.geometry import Floats
from lesionlens.base.labels import MrSequence
from lesionlens.base.numerics import robust_spread
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.study import PreparedStudy, Series
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.imaging.preparation.registration import pyramid, register

_ITERATIONS, _MAX_DEVIATIONS = 6, 2.5
"""Residuals beyond this many robust deviations are excluded from the fit."""


class OtherKind(StrEnum):
    """Type of another series, by words in its name; the value is the displayed name."""

    ADC = "ADC"
    DWI = "DWI"
    SWI = "SWI"
    PERFUSION = "perfusion"
    T2_STAR = "T2*"
    CT = "CT"
    OTHER = "series"


_BRAIN_WINDOW_HU, _AIR_HU = (0.0, 80.0), -500.0
"""Brain window of a CT; a CT with lower values than the latter is in Hounsfield units."""

_KIND_PATTERNS = (
    (OtherKind.ADC, r"adc|apparent.?diff"),
    (OtherKind.PERFUSION, r"perf|cbv|cbf|mtt|tmax|ttp|asl|dsc|dce|ktrans"),
    (OtherKind.SWI, r"swi|swan|suscept|qsm"),
    (OtherKind.T2_STAR, r"t2\*|t2.?star|haemo|hemo|(?<!t1.)(gre|fl2d)(?!.*t1)"),
    (OtherKind.DWI, r"dwi|dti|diff|trace|b.?1000"),
    (OtherKind.CT, r"ct|cct"),
)


def kind_of(series: Series) -> OtherKind:
    """Return the type of a series by its name.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> names = ("ep2d_diff_ADC", "b1000", "rCBV map", "SWI_mIP", "t2_fl2d_hemo", "t1_fl2d_tra")
    >>> [kind_of(SimpleNamespace(description=words)).value for words in names]
    ['ADC', 'DWI', 'perfusion', 'SWI', 'T2*', 'series']
    """
    text = series.description.lower()
    for kind, pattern in _KIND_PATTERNS:
        if re.search(rf"(?<![a-z])r?({pattern})", text):
            return kind
    return OtherKind.OTHER


@dataclass(frozen=True, slots=True, eq=False)
class OtherImage:
    """An image shown in addition to the sequences, in the patient frame of the study."""

    name: str
    """Displayed name."""
    volume: Volume
    """Volume of float32 on its own grid; NaN where there is no value."""
    alignment: str = ""
    """How it was aligned; empty if it was computed from aligned images."""
    doubtful: bool = False
    """Whether the alignment should be checked visually."""
    window: tuple[float, float] | None = None
    """Values shown black and white at first; None: by the image's own intensities."""


def align_other_series(
    prepared: PreparedStudy, series: Series, *, context: RunContext = SILENT
) -> OtherImage:
    """Align another series with the sequences: by its header, else by registration.

    Returns
    -------
    OtherImage
        Positioned by its header if it has the reference's frame of reference, or its voxel grid
        where a frame is unknown; else registered rigidly, and doubtful if the registration is
        uncertain.
    """
    kind = kind_of(series)
    name = series.description or "without a name"
    name = f"{kind} ({name})" if kind is not OtherKind.OTHER else name
    loaded = series.load().astype(np.float32, copy=False)
    values = np.where(np.isfinite(loaded), loaded, np.float32(np.nan))
    frames = series.grid.frame_uid, prepared.native.frame_uid
    frames_known = all(frames)
    in_hounsfield_units = kind is OtherKind.CT and bool((values < _AIR_HU).any())
    window = _BRAIN_WINDOW_HU if in_hounsfield_units else None
    if frames[0] == frames[1] if frames_known else series.grid.matches(prepared.native, 1e-2):
        volume = Volume(values, series.grid)
        return OtherImage(name, volume, "placed by its header", window=window)
    context.progress("registering it to the sequences", 0.3)
    fixed = prepared.images[prepared.reference]
    moving = pyramid(np.nan_to_num(values), series.grid)
    registration = register(pyramid(fixed, prepared.working), moving, context=context)
    affine = np.asarray(np.linalg.inv(registration.reference_to_sequence) @ series.grid.affine)
    movement = f"moved by {registration.shift_mm:.1f} mm and {registration.angle_deg:.1f}°"
    warning = ", doubtful: check by eye" if registration.doubtful else ""
    grid = replace(series.grid, affine=affine)
    alignment, is_doubtful = f"{movement}{warning}", registration.doubtful
    return OtherImage(name, Volume(values, grid), alignment, is_doubtful, window=window)


def subtraction(prepared: PreparedStudy) -> OtherImage:
    """Return T1c - T1, after matching T1's intensities to T1c's on unenhanced tissue.

    Raises
    ------
    UnusableInputError
        T1 or T1c is missing.
    """
    images = prepared.images
    if MrSequence.T1 not in images or MrSequence.T1C not in images:
        raise UnusableInputError(
            "The subtraction needs both T1 and T1c.", hint="Open a study with both, or name them."
        )
    before, after = images[MrSequence.T1], images[MrSequence.T1C]
    scale, offset = match_intensities(before[prepared.brain], after[prepared.brain])
    covered = (before > 0) & (after > 0)
    difference = after - (np.float32(scale) * before + np.float32(offset))
    difference = np.where(covered, difference, np.float32(np.nan))
    return OtherImage("T1c - T1", Volume(difference, prepared.working))


def match_intensities(before: Floats, after: Floats) -> tuple[float, float]:
    """Return scale and offset that match one image's intensities to another's.

    Robust linear fit; outliers such as enhancement are excluded iteratively.

    Examples
    --------
    >>> t1 = np.linspace(50, 150, 1000, dtype=np.float32)
    >>> t1c = 2 * t1 + 10
    >>> t1c[:100] += 300
    >>> [round(float(value), 2) for value in match_intensities(t1, t1c)]
    [2.0, 10.0]
    """
    x, y = before.astype(np.float64), after.astype(np.float64)
    inliers = np.ones(x.shape, bool)
    scale, offset = 1.0, 0.0
    for _ in range(_ITERATIONS):
        if np.ptp(x[inliers]) <= 0:
            break
        scale, offset = np.polyfit(x[inliers], y[inliers], 1)
        residuals = y - (scale * x + offset)
        centre = float(np.median(residuals))
        spread = robust_spread(residuals)
        inliers = np.abs(residuals - centre) <= max(_MAX_DEVIATIONS * spread, 1e-6)
    return float(scale), float(offset)
