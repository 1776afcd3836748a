"""Layers of a study that belong to the user: plain layers, and copies that were made in napari.

They are never removed. When another study is opened they are hidden and named as an earlier one's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

from lesionlens.base.records.study import Study
from lesionlens.napari.loading import KEY

_studies: WeakKeyDictionary[Any, Study] = WeakKeyDictionary()
"""The study of each copy, in any window and for any panel of it."""


def keep_copy(layer: Any, study: Study) -> None:
    """Remember that a layer of the user shows a study."""
    _studies[layer] = study


def release_copy(layer: Any) -> bool:
    """Leave a layer to the user if napari made it of a LesionLens layer; return whether it did.

    Such a layer has the metadata of the original, and its own voxels, which the user may draw.
    """
    metadata = layer.metadata.get(KEY, {})
    if "of" not in metadata or metadata["of"]() is layer:
        return False
    del layer.metadata[KEY]
    if metadata["study"] is not None:
        keep_copy(layer, metadata["study"])
    return True


def set_aside(layers: Iterable[Any], study: Study) -> None:
    """Hide and rename the copies among some layers that show another study."""
    for layer in layers:
        if _studies.get(layer, study) is not study:
            del _studies[layer]
            layer.name, layer.visible = f"{layer.name} (earlier study)", False
