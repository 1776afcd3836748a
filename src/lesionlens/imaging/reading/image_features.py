"""Image features of a study for monitoring: contrast, noise and voxel size."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lesionlens.base.geometry import Floats
from lesionlens.base.labels import MrSequence
from lesionlens.imaging.reading.readers import open_study

_MAX_VOXELS = 2_000_000


def image_features(study: Path) -> dict[str, float]:
    """Return contrast, noise and voxel size of each sequence as stored, without preparation.

    Returns
    -------
    dict
        For each sequence: quartiles of its brightness within its own range (5th to 95th percentile
        of foreground voxels), noise (median step between neighbours along the rows, of that
        range) and the longest voxel edge in mm; and the available sequences.
    """
    opened = open_study(study, recall=True)
    features = {f"has {s.display_name}": float(s in opened.series) for s in MrSequence}
    for sequence, series in opened.series.items():
        edge_mm = float(series.grid.spacing_mm.max())
        for feature, value in (brightness(series.load()) | {"voxel (mm)": edge_mm}).items():
            features[f"{sequence.display_name} {feature}"] = value
    return features


def brightness(values: Floats) -> dict[str, float]:
    """Return quartiles and noise of an image within its own range; empty for an empty image.

    Parameters
    ----------
    values : (I, J, K) float32
        Any units; voxels up to a twentieth of the 99th percentile are background.
    """
    step = max(1, round((values.size / _MAX_VOXELS) ** (1 / 2)))
    sampled = np.nan_to_num(values[:, ::step, ::step])
    foreground = sampled > np.percentile(sampled, 99) / 20
    if np.count_nonzero(foreground) < 100:
        return {}
    low, first, median, third, high = np.percentile(sampled[foreground], (5, 25, 50, 75, 95))
    extent = max(float(high - low), 1e-9)
    differences = np.abs(np.diff(sampled, axis=0))[foreground[1:] & foreground[:-1]]
    noise = float(np.median(differences)) / extent if differences.size else 0.0
    return {
        "lower quartile": float(first - low) / extent,
        "median": float(median - low) / extent,
        "upper quartile": float(third - low) / extent,
        "noise": noise,
    }
