"""A result as plain layers for other plugins, without private metadata."""

from __future__ import annotations

from typing import Any

import numpy as np

from lesionlens.base.grid import Grid
from lesionlens.base.labels import Label
from lesionlens.base.records.analysis import Analysis
from lesionlens.napari.model.overlays.maps import AXIS_LABELS, as_acquired

PlainLayer = tuple[Any, dict[str, Any], str]


def plain_layers(analysis: Analysis) -> tuple[PlainLayer, ...]:
    """Return segmentation, probabilities, attention and uncertainty as layer data.

    All are on the voxels of the reference sequence, with an affine to the patient's RAS+
    millimetres. Of an oblique scan all are hidden: napari's 2-D slices ignore the rotation.
    """
    volumes = analysis.volumes
    names = {int(label): label.display_name for label in Label}
    layers: list[PlainLayer] = []
    for kind, volumes_by_region in (
        ("probability", volumes.probability),
        ("attention", volumes.attention),
    ):
        for region, volume in volumes_by_region.items():
            layers.append(_image(volume.data, volume.grid, f"{kind}_{region.value}"))
    if volumes.uncertainty is not None:
        layers.append(_image(volumes.uncertainty.data, volumes.uncertainty.grid, "uncertainty"))
    labels = volumes.all_labels
    display = {"metadata": {"labels": names}, "visible": as_acquired(labels) is None}
    keywords = _geometry(labels.grid, "segmentation") | display
    layers.append((np.array(labels.data), keywords, "labels"))
    return tuple(layers)


def _image(data: Any, grid: Grid, name: str) -> PlainLayer:
    display = {"contrast_limits": (0.0, 1.0), "visible": False, "colormap": "viridis"}
    return np.array(data), _geometry(grid, name) | display, "image"


def _geometry(grid: Grid, name: str) -> dict[str, Any]:
    edges = np.asarray(grid.spacing_mm, np.float64)
    return {
        "name": name,
        "scale": tuple(edges.tolist()),
        "affine": grid.affine @ np.diag([*(1 / edges), 1.0]),
        "units": ("mm", "mm", "mm"),
        "axis_labels": AXIS_LABELS,
    }
