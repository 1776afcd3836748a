"""Image features of a study for monitoring: contrast, noise and voxel size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.labels import MrSequence
from lesionlens.imaging.reading.readers import open_study

_MAX_VOXELS = 2_000_000


def image_features(study: Path) -> dict[str, float]:
    """Return contrast, noise and voxel size of each sequence as stored, without preparation.

    Parameters
    ----------
    study : Path
        A study's folder.

    Returns
    -------
    dict
        For each sequence: quartiles of its brightness within its own range (5th to 95th percentile
        of foreground voxels), noise (median step between neighbours along the rows, of that
        range) and the longest voxel edge in mm; and the available sequences.
    """
    opened = open_study(study, recall=True)
    found = {f"has {s.display_name}": float(s in opened.series) for s in MrSequence}
    for sequence, series in opened.series.items():
        edge_mm = float(series.grid.spacing_mm.max())
        for what, value in (brightness(series.load()) | {"voxel (mm)": edge_mm}).items():
            found[f"{sequence.display_name} {what}"] = value
    return found


def brightness(values: NDArray[np.float32]) -> dict[str, float]:
    """Return quartiles and noise of an image within its own range; empty for an empty image.

    Parameters
    ----------
    values : (I, J, K) float32
        Any units; voxels up to a twentieth of the 99th percentile are background.
    """
    step = max(1, round((values.size / _MAX_VOXELS) ** (1 / 2)))
    some = np.nan_to_num(values[:, ::step, ::step])
    inside = some > np.percentile(some, 99) / 20
    if np.count_nonzero(inside) < 100:
        return {}
    low, first, middle, third, high = np.percentile(some[inside], (5, 25, 50, 75, 95))
    extent = max(float(high - low), 1e-9)
    steps = np.abs(np.diff(some, axis=0))[inside[1:] & inside[:-1]]
    noise = float(np.median(steps)) / extent if steps.size else 0.0
    return {
        "lower quartile": float(first - low) / extent,
        "median": float(middle - low) / extent,
        "upper quartile": float(third - low) / extent,
        "noise": noise,
    }
